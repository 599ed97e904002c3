"""What a task is, and what it may do."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gateway.settings.load import ENVIRONMENT_PREFIX, flatten, load
from gateway.settings.model import SECRETS, Settings
from tests.support.cloudformation import Stack
from tests.unit.ecs.rules.registry import (
    data_rule,
    service_rule,
)
from tests.unit.ecs.stacks import (
    FARGATE_MIB,
    PARAMETERS,
    SERVICE,
    container_of,
    dockerfile,
    environment_of,
    statements,
)


@service_rule
def a_stopped_task_has_the_longest_time(stack: Stack) -> None:
    """120 s is the maximum on Fargate; cfn-lint takes 300."""
    assert container_of(stack)["StopTimeout"] == 120


@service_rule
def a_websocket_is_a_file(stack: Stack) -> None:
    """As many files as the largest size shall hold connections, twice: in a deploy others' devices come, too."""
    (limit,) = container_of(stack)["Ulimits"]
    assert limit == {"Name": "nofile", "SoftLimit": 65_536, "HardLimit": 65_536}
    assert all(2 * size["Connections"] < limit["HardLimit"] for size in stack.template["Mappings"]["Sizes"].values())


@service_rule
def the_task_can_do_little(stack: Stack) -> None:
    """Not root, as the image says; a read-only disk but for the image's volume; no capabilities; an init process."""
    container = container_of(stack)
    assert container["User"] == dockerfile("USER") == "10001:10001"
    assert container["ReadonlyRootFilesystem"] is True
    assert container["LinuxParameters"] == {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}
    assert not container.get("Privileged")
    assert stack["Service"]["EnableExecuteCommand"] is False


@service_rule
def the_data_folder_is_a_volume(stack: Stack) -> None:
    """The image's VOLUME, so that it gets the owner that the image says; as large as the stores may become."""
    task, (mount,) = stack["TaskDefinition"], container_of(stack)["MountPoints"]
    assert dockerfile("VOLUME") == f'["{mount["ContainerPath"]}"]'
    assert mount["ReadOnly"] is False
    assert task["Volumes"] == [{"Name": mount["SourceVolume"]}]
    locations = Settings().locations
    needed_gib = 2 + (locations.spool_max_bytes + locations.index_max_bytes) / 2**30
    assert needed_gib <= task["EphemeralStorage"]["SizeInGiB"] <= 200


@service_rule
def fargate_knows_the_size(stack: Stack) -> None:
    """CPU and memory are a pair of its table, and each size holds its connections below the memory watermark."""
    task = stack["TaskDefinition"]
    assert int(task["Memory"]) in FARGATE_MIB[int(task["Cpu"])]
    assert task["RequiresCompatibilities"] == ["FARGATE"]
    assert task["RuntimePlatform"] == {"CpuArchitecture": "X86_64", "OperatingSystemFamily": "LINUX"}
    for size in stack.template["Mappings"]["Sizes"].values():
        assert int(size["Memory"]) in FARGATE_MIB[int(size["Cpu"])]
        # 134 MB with traffic, and 8 KB a connection with the kernel's share, twice in a deploy.
        assert 134 + 2 * size["Connections"] * 0.008 < int(size["Memory"]) * Settings().connections.memory_watermark


@service_rule
def the_essential_container_ends_the_task(stack: Stack) -> None:
    """Of the image that was asked for."""
    assert container_of(stack)["Essential"] is True
    assert container_of(stack)["Image"] == PARAMETERS["Image"]


@service_rule
def settings_are_known_to_the_program(stack: Stack) -> None:
    """Each variable is a setting with a value that it takes: an unknown one would stop the start."""
    names = {f"{ENVIRONMENT_PREFIX}{key}".replace(".", "__").upper() for key, _ in flatten(Settings())}
    container = container_of(stack)
    secrets = {one["Name"] for one in container["Secrets"]}
    # The driver of PostgreSQL reads its own.
    assert set(environment_of(stack)) | secrets <= names | {"PGPASSWORD"}
    known = {name: value for name, value in environment_of(stack).items() if "<imported" not in value}
    load(Path("/dev/null"), known)


@service_rule
def all_tasks_share_the_data(stack: Stack) -> None:
    """With a data stack: its domain, signed for, its stream, and the way there. Each export has its import."""
    environment = environment_of(stack)
    shared = {name: value for name, value in environment.items() if name.startswith("HEIWA_LOCATIONS__")}
    if "heiwa-data" not in json.dumps(shared):
        assert not shared
        return
    assert shared == {
        "HEIWA_LOCATIONS__OPENSEARCH_URL": "https://<imported heiwa-data-DomainEndpoint>",
        "HEIWA_LOCATIONS__OPENSEARCH_SIGN_REGION": "eu-west-1",
        "HEIWA_LOCATIONS__FIREHOSE_STREAM": "<imported heiwa-data-Stream>",
        "HEIWA_LOCATIONS__INDEX_PREFIX": "<imported heiwa-data-IndexPrefix>",
    }
    assert stack["TasksToDomain"]["GroupId"] == "<imported heiwa-data-DomainSecurityGroupId>"
    assert stack["TasksToDomain"]["SourceSecurityGroupId"] == "<TaskSecurityGroup.GroupId>"
    named = {statement["Sid"]: statement["Resource"] for statement in statements(stack["TaskRole"])}
    assert named["Index"] == "<imported heiwa-data-DomainArn>/*"
    assert named["Overflow"] == "<imported heiwa-data-StreamArn>"


@service_rule
def tasks_reach_each_other_through_the_broker(stack: Stack) -> None:
    """With a data stack: its address by TLS, its password as a secret, and the way there; without one, nothing."""
    environment = environment_of(stack)
    secrets = {one["Name"]: one["ValueFrom"] for one in container_of(stack)["Secrets"]}
    if "HEIWA_LOCATIONS__OPENSEARCH_URL" not in environment:
        assert not any(name.startswith("HEIWA_BROKER__") for name in (*environment, *secrets))
        return
    assert environment["HEIWA_BROKER__URL"] == "<imported heiwa-data-BrokerUrl>"
    assert secrets["HEIWA_BROKER__PASSWORD"] == "<imported heiwa-data-BrokerSecretArn>"
    way = stack["TasksToBroker"]
    assert (way["FromPort"], way["ToPort"]) == (6379, 6379)
    assert way["GroupId"] == "<imported heiwa-data-BrokerSecurityGroupId>"
    assert way["SourceSecurityGroupId"] == "<TaskSecurityGroup.GroupId>"
    out = [one for one in stack["TaskSecurityGroup"]["SecurityGroupEgress"] if one["FromPort"] == 6379]
    assert [one["CidrIp"] for one in out] == [PARAMETERS["VpcCidr"]]


@data_rule
def the_broker_is_closed_and_keeps_what_it_is_told(stack: Stack) -> None:
    """TLS and a password; nobody is let in here; it drops no key; its address follows the primary to another zone."""
    broker = stack["Broker"]
    assert broker["Engine"] == "valkey"
    assert broker["TransitEncryptionEnabled"] is True
    assert broker["AtRestEncryptionEnabled"] is True
    assert broker["AuthToken"] == "{{resolve:secretsmanager:<BrokerSecret>}}"
    assert broker["SecurityGroupIds"] == ["<BrokerSecurityGroup.GroupId>"]
    assert "SecurityGroupIngress" not in stack["BrokerSecurityGroup"]
    assert broker["CacheSubnetGroupName"] == "<BrokerSubnets>"
    assert stack["BrokerSubnets"]["SubnetIds"] == "<PrivateSubnetIds>"
    assert broker["CacheParameterGroupName"] == "<BrokerParameters>"
    parameters = stack["BrokerParameters"]
    assert parameters["Properties"] == {"maxmemory-policy": "noeviction"}
    assert parameters["CacheParameterGroupFamily"] == f"valkey{broker['EngineVersion'].partition('.')[0]}"
    # A gateway speaks to one node; a cluster would want more of it.
    assert broker["NumNodeGroups"] == 1
    assert (broker["ReplicasPerNodeGroup"], broker["MultiAZEnabled"], broker["AutomaticFailoverEnabled"]) == (
        1,
        True,
        True,
    )
    assert stack.template["Resources"]["Broker"]["DeletionPolicy"] == "Delete"
    url = stack.template["Outputs"]["BrokerUrl"]["Value"]["Fn::Sub"]
    assert url == "rediss://${Broker.PrimaryEndPoint.Address}:${Broker.PrimaryEndPoint.Port}"


@data_rule
def the_brokers_password_is_one(stack: Stack) -> None:
    """16 to 128 characters, none of those that ElastiCache refuses."""
    secret = stack["BrokerSecret"]["GenerateSecretString"]
    assert 32 <= secret["PasswordLength"] <= 128
    assert secret["ExcludePunctuation"] is True


@data_rule
def what_the_service_imports_is_exported(stack: Stack) -> None:
    """By the names that ecs/service.yaml asks for."""
    exported = {one["Export"]["Name"]["Fn::Sub"] for one in stack.template["Outputs"].values() if "Export" in one}
    wanted = re.findall(r"\$\{DataStack\}(-\w+)", SERVICE.read_text("utf-8"))
    assert {f"${{AWS::StackName}}{name}" for name in wanted} == exported


@service_rule
def all_tasks_have_one_key(stack: Stack) -> None:
    """A secret by its ARN, never by value; or an issuer's keys, with an audience."""
    secrets = {one["Name"]: one["ValueFrom"] for one in container_of(stack)["Secrets"]}
    environment = environment_of(stack)
    hidden = {f"{ENVIRONMENT_PREFIX}{key}".replace(".", "__").upper() for key in SECRETS}
    assert not hidden & set(environment)
    if "HEIWA_AUTH__JWKS_URL" in environment:
        assert environment["HEIWA_AUTH__AUDIENCE"]
        assert not secrets
    else:
        (source,) = (secrets["HEIWA_AUTH__SECRET"],)
        assert source == "<AuthSecret>" or source.startswith("arn:")


@service_rule
def a_made_secret_is_long_enough(stack: Stack) -> None:
    """RFC 7518 asks for 32 bytes; only letters and digits, so that no shell stumbles."""
    for secret in stack.of_type("AWS::SecretsManager::Secret").values():
        assert secret["GenerateSecretString"]["PasswordLength"] >= 32
        assert secret["GenerateSecretString"]["ExcludePunctuation"] is True
        assert "SecretString" not in secret


@service_rule
def logs_are_kept_and_never_waited_for(stack: Stack) -> None:
    """awslogs needs the execution role; in its blocking mode a log that is throttled stops the program."""
    log = container_of(stack)["LogConfiguration"]
    assert log["LogDriver"] == "awslogs"
    options = log["Options"]
    assert (options["awslogs-group"], options["awslogs-region"]) == ("<LogGroup>", "eu-west-1")
    assert options["awslogs-stream-prefix"]
    assert options["mode"] == "non-blocking"
    assert options["max-buffer-size"] == "25m"
    assert stack["TaskDefinition"]["ExecutionRoleArn"] == "<ExecutionRole.Arn>"
    assert stack["LogGroup"]["RetentionInDays"] >= 7
