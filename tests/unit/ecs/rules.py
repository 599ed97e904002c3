"""What the templates of ecs/ must say, one function a rule. Each raises AssertionError when a template does not.

`test_templates.py` holds the templates to them; `test_mutations.py` breaks the templates, and somebody has to notice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from gateway.settings.load import ENVIRONMENT_PREFIX, flatten, load
from gateway.settings.model import SECRETS, Settings
from gateway.telemetry.emf import CHOSEN
from gateway.telemetry.names import NAMESPACE
from tests.support.cloudformation import Stack, read

ROOT = Path(__file__).parents[3]
SERVICE, DATA, WORKFLOWS = ROOT / "ecs/service.yaml", ROOT / "ecs/data.yaml", ROOT / "ecs/workflows.yaml"
# As a person deploys it: with a key of its own, with a secret that exists, with an issuer, with the data stack.
EXAMPLES: dict[str, dict[str, Any]] = {
    "alone": {},
    "own secret": {"AuthSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:heiwa-abc"},
    "issuer": {"JwksUrl": "https://issuer.example/keys", "Audience": "heiwa"},
    "linear": {"Strategy": "LINEAR", "Guard": "yes"},
    "canary": {"Strategy": "CANARY", "StepPercent": 5, "DeregistrationDelay": 600},
    "data": {"DataStack": "heiwa-data", "Size": "large", "DeregistrationDelay": 900},
    "workflows": {"DataStack": "heiwa-data", "WorkflowStack": "heiwa-workflows"},
}
_ARN = "arn:aws:{}:eu-west-1:123456789012:{}".format
# Managers: alone, and with all of their runners.
MANAGERS: dict[str, dict[str, Any]] = {
    "devices": {},
    "jobs": {
        "Runners": "device,batch,ecs",
        "JobsUrl": "https://jobs.example",
        "BatchQueueArns": _ARN("batch", "job-queue/etl"),
        "BatchJobDefinitionArns": _ARN("batch", "job-definition/load:*"),
        "EcsClusterArn": _ARN("ecs", "cluster/main"),
        "EcsTaskDefinitionArns": _ARN("ecs", "task-definition/load:*"),
        "EcsRoleArns": "arn:aws:iam::123456789012:role/load",
    },
}
MANAGER_PARAMETERS = {
    "Image": "heiwa@sha256:" + "0" * 64,
    "DataStack": "heiwa-data",
    "AuthSecretArn": _ARN("secretsmanager", "secret:heiwa-abc"),
}
PARAMETERS = {"VpcCidr": "10.0.0.0/16", "ClientCidr": "0.0.0.0/0", "Image": "heiwa@sha256:" + "0" * 64}
# Amazon ECS developer guide, "Task definition parameters for Fargate": CPU units to MiB.
FARGATE_MIB = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
}

Rule = Callable[[Stack], None]
SERVICE_RULES: dict[str, Rule] = {}
DATA_RULES: dict[str, Rule] = {}
MANAGER_RULES: dict[str, Rule] = {}


def service_rule(rule: Rule) -> Rule:
    """Of ecs/service.yaml."""
    SERVICE_RULES[rule.__name__] = rule
    return rule


def data_rule(rule: Rule) -> Rule:
    """Of ecs/data.yaml."""
    DATA_RULES[rule.__name__] = rule
    return rule


def manager_rule(rule: Rule) -> Rule:
    """Of ecs/workflows.yaml."""
    MANAGER_RULES[rule.__name__] = rule
    return rule


class Example(NamedTuple):
    """A template with parameters, and its rules."""

    name: str
    stack: Stack
    rules: Mapping[str, Rule]


def examples(
    service: dict[str, Any] | None = None, data: dict[str, Any] | None = None, managers: dict[str, Any] | None = None
) -> Iterator[Example]:
    """All templates, or what stands for them, in all ways of deploying them."""
    template = service or read(SERVICE)
    for name, parameters in EXAMPLES.items():
        yield Example(f"service, {name}", Stack(template, **PARAMETERS, **parameters), SERVICE_RULES)
    yield Example("data", Stack(data or read(DATA)), DATA_RULES)
    template = managers or read(WORKFLOWS)
    for name, parameters in MANAGERS.items():
        yield Example(f"workflows, {name}", Stack(template, **MANAGER_PARAMETERS, **parameters), MANAGER_RULES)


# --- the way of a connection ------------------------------------------------------------------------------------------


def _attributes(pairs: list[dict[str, Any]]) -> dict[str, str]:
    return {pair["Key"]: str(pair["Value"]) for pair in pairs}


def _group(stack: Stack) -> dict[str, str]:
    return _attributes(stack["TargetGroup"]["TargetGroupAttributes"])


def _container(stack: Stack) -> dict[str, Any]:
    (container,) = stack["TaskDefinition"]["ContainerDefinitions"]
    found: dict[str, Any] = container
    return found


def _environment(stack: Stack) -> dict[str, str]:
    return {one["Name"]: one["Value"] for one in _container(stack)["Environment"]}


def dockerfile(instruction: str) -> str:
    """The last one of a kind, its lines joined."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return str(re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)[-1]).strip()


@service_rule
def the_delay_leaves_time_for_the_drain(stack: Stack) -> None:
    """A parameter from 300 to 900 s; AWS takes 0 to 3600."""
    parameter = stack.template["Parameters"]["DeregistrationDelay"]
    assert parameter["Type"] == "Number"
    assert (parameter["MinValue"], parameter["MaxValue"]) == (300, 900)
    assert 300 <= int(_group(stack)["deregistration_delay.timeout_seconds"]) <= 900


@service_rule
def routing_is_round_robin_without_stickiness(stack: Stack) -> None:
    """Least outstanding requests would send a whole wave to the newest task; stickiness brings devices back to one."""
    assert _group(stack)["load_balancing.algorithm.type"] == "round_robin"
    assert _group(stack)["stickiness.enabled"] == "false"


@service_rule
def health_is_whether_the_process_lives(stack: Stack) -> None:
    """/readyz is 503 in a manual drain. Slow to condemn: a busy second must not cost thousands of devices."""
    group = stack["TargetGroup"]
    assert (group["HealthCheckPath"], group["Matcher"]) == ("/livez", {"HttpCode": "200"})
    assert group.get("HealthCheckEnabled", True)
    assert "HealthCheckPort" not in group
    assert group["HealthCheckTimeoutSeconds"] < group["HealthCheckIntervalSeconds"]
    assert group["HealthCheckIntervalSeconds"] * group["UnhealthyThresholdCount"] >= 30
    assert group["HealthCheckIntervalSeconds"] * group["HealthyThresholdCount"] <= 30


@service_rule
def targets_are_addresses_of_tasks(stack: Stack) -> None:
    """With awsvpc the task is the target, not its instance; the listener speaks plain HTTP to it."""
    group = stack["TargetGroup"]
    assert (group["TargetType"], group["Protocol"], group["VpcId"]) == ("ip", "HTTP", "<VpcId>")
    assert group.get("ProtocolVersion", "HTTP1") == "HTTP1"
    assert stack["TaskDefinition"]["NetworkMode"] == "awsvpc"


@service_rule
def the_balancer_outwaits_a_heartbeat(stack: Stack) -> None:
    """Above twice the heartbeat, within what AWS takes; and no websocket is older than the keep-alive of clients."""
    balancer = stack["LoadBalancer"]
    attributes = _attributes(balancer["LoadBalancerAttributes"])
    connections = Settings().connections
    assert 2 * connections.heartbeat_s < int(attributes["idle_timeout.timeout_seconds"]) <= 4000
    oldest_s = float(connections.max_age_h.partition("-")[2]) * 3600
    assert oldest_s <= int(attributes["client_keep_alive.seconds"]) <= 604_800
    assert attributes["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert balancer["Type"] == "application"


@service_rule
def devices_come_by_tls_only(stack: Stack) -> None:
    """One listener, HTTPS with a certificate, TLS 1.2 or newer."""
    (listener,) = stack.of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    assert (listener["Protocol"], listener["Port"]) == ("HTTPS", 443)
    assert listener["Certificates"] == [{"CertificateArn": "<CertificateArn>"}]
    assert listener["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-")
    assert listener["DefaultActions"] == [{"Type": "forward", "TargetGroupArn": "<TargetGroup>"}]
    assert listener["LoadBalancerArn"] == "<LoadBalancer>"


@service_rule
def nobody_reaches_a_task_but_through_the_balancer(stack: Stack) -> None:
    """Security groups, subnets, no public address; from where devices come is said by whoever deploys."""
    (devices,) = stack["BalancerSecurityGroup"]["SecurityGroupIngress"]
    assert (devices["FromPort"], devices["ToPort"], devices["CidrIp"]) == (443, 443, PARAMETERS["ClientCidr"])
    assert "Default" not in stack.template["Parameters"]["ClientCidr"]
    (ingress,) = stack["TaskSecurityGroup"]["SecurityGroupIngress"]
    assert ingress["SourceSecurityGroupId"] == "<BalancerSecurityGroup.GroupId>"
    assert (ingress["FromPort"], ingress["ToPort"]) == (8080, 8080)
    assert stack["LoadBalancer"]["Subnets"] == "<PublicSubnetIds>"
    assert stack["LoadBalancer"]["SecurityGroups"] == ["<BalancerSecurityGroup.GroupId>"]
    network = stack["Service"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"
    assert network["Subnets"] == "<PrivateSubnetIds>"
    assert network["SecurityGroups"] == ["<TaskSecurityGroup.GroupId>"]


@service_rule
def one_port_all_the_way(stack: Stack) -> None:
    """The balancer's names are the task definition's; the port is what the program listens on and the image exposes."""
    (balancer,) = stack["Service"]["LoadBalancers"]
    container = _container(stack)
    assert balancer["ContainerName"] == container["Name"]
    assert balancer["TargetGroupArn"] == "<TargetGroup>"
    port = balancer["ContainerPort"]
    assert container["PortMappings"] == [{"ContainerPort": port, "Protocol": "tcp"}]
    assert stack["TargetGroup"]["Port"] == port == int(dockerfile("EXPOSE"))
    assert _environment(stack)["HEIWA_LISTEN__PUBLIC"] == f"0.0.0.0:{port}"
    assert stack.template["Resources"]["Service"]["DependsOn"] == "Listener"


@service_rule
def the_balancers_word_on_addresses_is_believed(stack: Stack) -> None:
    """The VPC's network, and never everybody's."""
    assert _environment(stack)["HEIWA_LISTEN__TRUSTED_PROXIES"] == PARAMETERS["VpcCidr"]
    pattern = stack.template["Parameters"]["VpcCidr"]["AllowedPattern"]
    assert re.fullmatch(pattern, "10.0.0.0/16")
    assert not re.fullmatch(pattern, "0.0.0.0/0")


# --- the task ---------------------------------------------------------------------------------------------------------


@service_rule
def a_stopped_task_has_the_longest_time(stack: Stack) -> None:
    """120 s is the maximum on Fargate; cfn-lint takes 300."""
    assert _container(stack)["StopTimeout"] == 120


@service_rule
def a_websocket_is_a_file(stack: Stack) -> None:
    """As many files as the largest size shall hold connections, twice: in a deploy others' devices come, too."""
    (limit,) = _container(stack)["Ulimits"]
    assert limit == {"Name": "nofile", "SoftLimit": 65_536, "HardLimit": 65_536}
    assert all(2 * size["Connections"] < limit["HardLimit"] for size in stack.template["Mappings"]["Sizes"].values())


@service_rule
def the_task_can_do_little(stack: Stack) -> None:
    """Not root, as the image says; a read-only disk but for the image's volume; no capabilities; an init process."""
    container = _container(stack)
    assert container["User"] == dockerfile("USER") == "10001:10001"
    assert container["ReadonlyRootFilesystem"] is True
    assert container["LinuxParameters"] == {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}
    assert not container.get("Privileged")
    assert stack["Service"]["EnableExecuteCommand"] is False


@service_rule
def the_data_folder_is_a_volume(stack: Stack) -> None:
    """The image's VOLUME, so that it gets the owner that the image says; as large as the stores may become."""
    task, (mount,) = stack["TaskDefinition"], _container(stack)["MountPoints"]
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
    assert _container(stack)["Essential"] is True
    assert _container(stack)["Image"] == PARAMETERS["Image"]


@service_rule
def settings_are_known_to_the_program(stack: Stack) -> None:
    """Each variable is a setting with a value that it takes: an unknown one would stop the start."""
    names = {f"{ENVIRONMENT_PREFIX}{key}".replace(".", "__").upper() for key, _ in flatten(Settings())}
    container = _container(stack)
    secrets = {one["Name"] for one in container["Secrets"]}
    # The driver of PostgreSQL reads its own.
    assert set(_environment(stack)) | secrets <= names | {"PGPASSWORD"}
    known = {name: value for name, value in _environment(stack).items() if "<imported" not in value}
    load(Path("/dev/null"), known)


@service_rule
def all_tasks_share_the_data(stack: Stack) -> None:
    """With a data stack: its domain, signed for, its stream, and the way there. Each export has its import."""
    environment = _environment(stack)
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
    environment = _environment(stack)
    secrets = {one["Name"]: one["ValueFrom"] for one in _container(stack)["Secrets"]}
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
    secrets = {one["Name"]: one["ValueFrom"] for one in _container(stack)["Secrets"]}
    environment = _environment(stack)
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
    log = _container(stack)["LogConfiguration"]
    assert log["LogDriver"] == "awslogs"
    options = log["Options"]
    assert (options["awslogs-group"], options["awslogs-region"]) == ("<LogGroup>", "eu-west-1")
    assert options["awslogs-stream-prefix"]
    assert options["mode"] == "non-blocking"
    assert options["max-buffer-size"] == "25m"
    assert stack["TaskDefinition"]["ExecutionRoleArn"] == "<ExecutionRole.Arn>"
    assert stack["LogGroup"]["RetentionInDays"] >= 7


# --- the service ------------------------------------------------------------------------------------------------------


def _by_weights(stack: Stack) -> bool:
    """Whether this example was deployed so."""
    return "AlternateTargetGroup" in stack.of_type("AWS::ElasticLoadBalancingV2::TargetGroup")


@service_rule
def a_deploy_is_one_wave(stack: Stack) -> None:
    """All new tasks first; a deploy that fails goes back; a finished one lets the old tasks drain."""
    deployment = stack["Service"]["DeploymentConfiguration"]
    rolling = {
        "Strategy": "ROLLING",
        "MaximumPercent": 200,
        "MinimumHealthyPercent": 100,
        "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
        "EarlySuccessCriteria": {"Enable": True, "HealthyPercent": 100, "SourceServiceRevisionCleanup": "DEFERRED"},
    }
    assert stack.template["Parameters"]["Strategy"]["Default"] == "ROLLING"
    if _by_weights(stack):
        shared = ("MaximumPercent", "MinimumHealthyPercent")
        assert {name: deployment[name] for name in shared} == {name: rolling[name] for name in shared}
    else:
        assert deployment == rolling
    assert stack["Service"]["DeploymentController"] == {"Type": "ECS"}
    assert stack["Service"]["SchedulingStrategy"] == "REPLICA"


@service_rule
def weights_have_their_steps(stack: Stack) -> None:
    """The configuration of the own strategy, and no other; a bake time in which most connections can move; at a hook
    that nobody continues the deployment goes back."""
    deployment = stack["Service"]["DeploymentConfiguration"]
    if not _by_weights(stack):
        return
    assert not {"DeploymentCircuitBreaker", "EarlySuccessCriteria"} & set(deployment)
    steps = {"LINEAR": "LinearConfiguration", "CANARY": "CanaryConfiguration"}
    wanted = steps[deployment["Strategy"]]
    assert [name for name in steps.values() if name in deployment] == [wanted]
    percent, minutes = deployment[wanted].values()
    assert set(deployment[wanted]) in (
        {"StepPercent", "StepBakeTimeInMinutes"},
        {"CanaryPercent", "CanaryBakeTimeInMinutes"},
    )
    assert 3 <= percent <= 50
    assert minutes >= 5
    assert deployment["BakeTimeInMinutes"] >= 10
    assert stack.template["Parameters"]["BakeMinutes"]["MinValue"] >= 10
    if "GuardService" not in stack.of_type("AWS::ECS::Service"):
        assert "LifecycleHooks" not in deployment
        return
    (hook,) = deployment["LifecycleHooks"]
    assert hook["TargetType"] == "PAUSE"
    # ECS takes no pause at TEST_TRAFFIC_SHIFT and PRODUCTION_TRAFFIC_SHIFT.
    assert set(hook["LifecycleStages"]) == {"PRE_PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"}
    assert hook["TimeoutConfiguration"] == {"TimeoutInMinutes": 120, "Action": "ROLLBACK"}


@service_rule
def both_groups_of_a_pair_are_the_same(stack: Stack) -> None:
    """ECS swaps them with each deploy; one rule sends all traffic to both, and ECS's role may change it."""
    if not _by_weights(stack):
        return
    assert stack["AlternateTargetGroup"] == stack["TargetGroup"]
    rule = stack["ProductionRule"]
    assert rule["ListenerArn"] == "<Listener>"
    assert rule["Conditions"] == [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["*"]}}]
    (action,) = rule["Actions"]
    groups = {one["TargetGroupArn"]: one["Weight"] for one in action["ForwardConfig"]["TargetGroups"]}
    assert groups == {"<TargetGroup>": 100, "<AlternateTargetGroup>": 0}
    (balancer,) = stack["Service"]["LoadBalancers"]
    assert balancer["AdvancedConfiguration"] == {
        "AlternateTargetGroupArn": "<AlternateTargetGroup>",
        "ProductionListenerRule": "<ProductionRule>",
        "RoleArn": "<BalancerRole.Arn>",
    }
    policy = "arn:aws:iam::aws:policy/AmazonECSInfrastructureRolePolicyForLoadBalancers"
    assert stack["BalancerRole"]["ManagedPolicyArns"] == [policy]


@service_rule
def the_guard_is_the_program(stack: Stack) -> None:
    """It runs the image that it guards, knows the service and the name of its metrics, and can do as little."""
    if "GuardService" not in stack.of_type("AWS::ECS::Service"):
        return
    (container,) = stack["GuardTaskDefinition"]["ContainerDefinitions"]
    gateway = _container(stack)
    for name in ("Image", "User", "ReadonlyRootFilesystem", "LinuxParameters"):
        assert container[name] == gateway[name]
    command = [str(word) for word in container["Command"]]
    options = dict(pairwise(command))
    assert command[:3] == ["deploy", "guard", "--keep"]
    assert options["--service"] == stack["Service"]["ServiceName"]
    assert options["--cluster"] == stack["Service"]["Cluster"] == "<Cluster>"
    assert options["--metrics-service"] == _environment(stack)["HEIWA_TELEMETRY__SERVICE"]
    assert int(options["--min-devices"]) >= 1
    assert stack["GuardTaskDefinition"]["TaskRoleArn"] == "<GuardRole.Arn>"
    assert stack["GuardService"]["DesiredCount"] == 1
    assert stack["GuardService"]["NetworkConfiguration"] == stack["Service"]["NetworkConfiguration"]
    assert (int(stack["GuardTaskDefinition"]["Memory"])) in FARGATE_MIB[int(stack["GuardTaskDefinition"]["Cpu"])]


@service_rule
def nothing_moves_devices_without_need(stack: Stack) -> None:
    """No rebalancing of zones; a task that starts has time; the number of tasks is not reset by an update."""
    service = stack["Service"]
    assert service["AvailabilityZoneRebalancing"] == "DISABLED"
    assert 15 <= service["HealthCheckGracePeriodSeconds"] <= 120
    assert "DesiredCount" not in service


@service_rule
def the_service_runs_the_task_on_fargate(stack: Stack) -> None:
    """Not Spot: its tasks are told two minutes before, still registered."""
    service = stack["Service"]
    assert (service["LaunchType"], service["PlatformVersion"]) == ("FARGATE", "LATEST")
    assert (service["Cluster"], service["TaskDefinition"]) == ("<Cluster>", "<TaskDefinition>")


@service_rule
def scaling_counts_connections_of_tasks_that_stay(stack: Stack) -> None:
    """All connections by all tasks that serve, as the program's metrics say it; slower in than a drain."""
    target, policy = stack["ScalableTarget"], stack["ScalingPolicy"]
    assert target["ResourceId"] == "service/<Cluster>/<Service.Name>"
    assert (target["ServiceNamespace"], target["ScalableDimension"]) == ("ecs", "ecs:service:DesiredCount")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 8)
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert policy["ScalingTargetId"] == "<ScalableTarget>"
    assert tracking["TargetValue"] in [size["Connections"] for size in stack.template["Mappings"]["Sizes"].values()]
    longest_delay_s = stack.template["Parameters"]["DeregistrationDelay"]["MaxValue"]
    assert tracking["ScaleInCooldown"] > longest_delay_s + _container(stack)["StopTimeout"]
    connections, serving, each = tracking["CustomizedMetricSpecification"]["Metrics"]
    chosen = {(NAMESPACE, choice.name) for choice in CHOSEN}
    for one in (connections, serving):
        metric = one["MetricStat"]["Metric"]
        assert (metric["Namespace"], metric["MetricName"]) in chosen
        dimensions = {pair["Name"]: pair["Value"] for pair in metric["Dimensions"]}
        assert dimensions == {"service": _environment(stack)["HEIWA_TELEMETRY__SERVICE"], "role": "gateway"}
    assert (connections["MetricStat"]["Stat"], serving["MetricStat"]["Stat"]) == ("Sum", "Sum")
    assert each["Expression"] == f"{connections['Id']} / {serving['Id']}"
    assert [one["ReturnData"] for one in (connections, serving, each)] == [False, False, True]


# --- the data ---------------------------------------------------------------------------------------------------------


def _destination(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack["Stream"]["AmazonopensearchserviceDestinationConfiguration"]
    return found


@data_rule
def overflow_has_no_id_of_firehoses(stack: Stack) -> None:
    """Its own would store a document twice that came both ways. Its index is one, and the pipeline chooses the day."""
    destination = _destination(stack)
    assert destination["DocumentIdOptions"] == {"DefaultDocumentIdFormat": "NO_DOCUMENT_ID"}
    assert destination["IndexRotationPeriod"] == "NoRotation"
    assert destination["IndexName"] == "locations-overflow"
    assert stack["Stream"]["DeliveryStreamType"] == "DirectPut"


@data_rule
def what_cannot_be_delivered_is_kept(stack: Stack) -> None:
    """The longest retries, then the bucket, which outlives the stack and is nobody else's."""
    destination = _destination(stack)
    assert destination["RetryOptions"] == {"DurationInSeconds": 7200}
    assert destination["S3BackupMode"] == "FailedDocumentsOnly"
    assert destination["S3Configuration"]["BucketARN"] == "<FailedDocuments.Arn>"
    bucket = stack["FailedDocuments"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    for name in ("FailedDocuments", "Domain"):
        assert stack.template["Resources"][name]["DeletionPolicy"] == "Retain"


@data_rule
def firehose_reaches_the_domain_before_it_is_asked(stack: Stack) -> None:
    """Its buffers stay below the domain's largest request (10 MiB); its permissions are there before it."""
    destination = _destination(stack)
    assert destination["BufferingHints"] == {"IntervalInSeconds": 10, "SizeInMBs": 5}
    assert stack.template["Resources"]["Stream"]["DependsOn"] == "StreamPolicy"
    assert destination["DomainARN"] == "<Domain.Arn>"
    assert destination["VpcConfiguration"]["SecurityGroupIds"] == ["<StreamSecurityGroup.GroupId>"]
    assert destination["CloudWatchLoggingOptions"]["Enabled"] is True
    actions = {
        action for one in stack["StreamPolicy"]["PolicyDocument"]["Statement"] for action in _list(one["Action"])
    }
    assert {"es:ESHttpPost", "es:ESHttpPut", "es:DescribeDomain", "s3:PutObject", "logs:PutLogEvents"} <= actions


@data_rule
def the_domain_is_closed(stack: Stack) -> None:
    """In the VPC, encrypted everywhere, two nodes in two zones; the roles of this account decide who may."""
    domain = stack["Domain"]
    assert domain["VPCOptions"]["SecurityGroupIds"] == ["<DomainSecurityGroup.GroupId>"]
    assert domain["NodeToNodeEncryptionOptions"] == {"Enabled": True}
    assert domain["EncryptionAtRestOptions"] == {"Enabled": True}
    assert domain["DomainEndpointOptions"]["EnforceHTTPS"] is True
    assert domain["DomainEndpointOptions"]["TLSSecurityPolicy"].startswith("Policy-Min-TLS-1-2")
    (statement,) = domain["AccessPolicies"]["Statement"]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    cluster = domain["ClusterConfig"]
    assert cluster["InstanceCount"] % cluster["ZoneAwarenessConfig"]["AvailabilityZoneCount"] == 0
    assert cluster["ZoneAwarenessEnabled"] is True


# --- roles of both ----------------------------------------------------------------------------------------------------


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(role: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of the inline policies of a role."""
    for policy in role.get("Policies", ()):
        yield from policy["PolicyDocument"]["Statement"]


def _roles_are_narrow(stack: Stack) -> None:
    """Only one service may take a role, for this account; no wildcard action, no managed policy; `*` only where AWS
    knows no resources."""
    everywhere = {"WatchJobs", "Check", "LogIn", "WatchTargetHealth", "ReadStopTimeout", "ReachTheVpc", "ReadMetrics"}
    for name, role in stack.of_type("AWS::IAM::Role").items():
        # What ECS itself does with rules of a load balancer only AWS knows.
        own = name == "BalancerRole"
        assert own == ("ManagedPolicyArns" in role)
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        services = ("ecs.amazonaws.com",) if own else ("ecs-tasks.amazonaws.com", "firehose.amazonaws.com")
        assert trust["Principal"]["Service"] in services
        assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
        for statement in statements(role):
            assert not any("*" in action for action in _list(statement["Action"])), statement["Sid"]
            assert ("*" in _list(statement["Resource"])) == (statement["Sid"] in everywhere), statement["Sid"]


@service_rule
def roles_are_narrow(stack: Stack) -> None:
    """As said; and ECS may pull, write the log and read the one secret, nothing else."""
    _roles_are_narrow(stack)
    named = {statement["Sid"]: statement for statement in statements(stack["ExecutionRole"])}
    secrets = {one["Name"]: one["ValueFrom"] for one in _container(stack)["Secrets"]}
    readers = {
        "HEIWA_AUTH__SECRET": "ReadSecret",
        "HEIWA_BROKER__PASSWORD": "ReadBrokerSecret",
        "PGPASSWORD": "ReadStoreSecret",
    }
    assert set(named) == {"LogIn", "PullImage", "WriteLog"} | {readers[name] for name in secrets}
    for name, source in secrets.items():
        assert named[readers[name]]["Resource"] == source
    assert stack["TaskDefinition"]["TaskRoleArn"] == "<TaskRole.Arn>"


@data_rule
def firehoses_role_is_narrow(stack: Stack) -> None:
    """As said."""
    _roles_are_narrow(stack)


@service_rule
def tasks_share_the_runs_with_managers(stack: Stack) -> None:
    """With a workflow stack: no manager here, the store and its password, and the way there; without one, nothing."""
    environment = _environment(stack)
    secrets = {one["Name"]: one["ValueFrom"] for one in _container(stack)["Secrets"]}
    if "HEIWA_WORKFLOWS__STORE_URL" not in environment:
        assert not {"HEIWA_SERVE__ROLES", "PGPASSWORD"} & {*environment, *secrets}
        return
    assert environment["HEIWA_WORKFLOWS__STORE_URL"] == "<imported heiwa-workflows-StoreUrl>"
    assert environment["HEIWA_SERVE__ROLES"] == "gateway"
    assert secrets["PGPASSWORD"] == "<imported heiwa-workflows-StoreSecretArn>"
    way = stack["TasksToStore"]
    assert (way["FromPort"], way["ToPort"]) == (5432, 5432)
    assert way["GroupId"] == "<imported heiwa-workflows-StoreSecurityGroupId>"
    assert way["SourceSecurityGroupId"] == "<TaskSecurityGroup.GroupId>"


# --- managers ---------------------------------------------------------------------------------------------------------


@manager_rule
def managers_are_the_program_and_hold_no_device(stack: Stack) -> None:
    """Settings that the program takes; nobody reaches a manager; two at least, and new ones before old ones go."""
    names = {f"{ENVIRONMENT_PREFIX}{key}".replace(".", "__").upper() for key, _ in flatten(Settings())}
    container, environment = _container(stack), _environment(stack)
    assert {*environment, *(one["Name"] for one in container["Secrets"])} <= names | {"PGPASSWORD"}
    assert environment["HEIWA_SERVE__ROLES"] == "manager,rebalancer"
    assert (container["ReadonlyRootFilesystem"], container["User"]) == (True, "10001:10001")
    assert container["LinuxParameters"] == {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}
    assert "PortMappings" not in container
    assert "SecurityGroupIngress" not in stack["ManagerSecurityGroup"]
    assert stack["Service"]["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
    assert int(stack["Service"]["DesiredCount"]) >= 2
    rolling = stack["Service"]["DeploymentConfiguration"]
    assert (rolling["MinimumHealthyPercent"], rolling["MaximumPercent"]) == (100, 200)
    assert stack["TaskDefinition"]["TaskRoleArn"] == "<ManagerRole.Arn>"


@manager_rule
def the_store_is_kept_and_closed(stack: Stack) -> None:
    """In two zones, encrypted, with backups; a snapshot stays; managers alone are let in here."""
    store = stack["Store"]
    assert (store["MultiAZ"], store["StorageEncrypted"], store["PubliclyAccessible"]) == (True, True, False)
    assert store["DeletionProtection"] is True
    assert store["BackupRetentionPeriod"] >= 7
    assert stack.template["Resources"]["Store"]["DeletionPolicy"] == "Snapshot"
    assert store["MasterUserPassword"] == "{{resolve:secretsmanager:<StoreSecret>}}"
    assert "SecurityGroupIngress" not in stack["StoreSecurityGroup"]
    assert stack["ManagersToStore"]["SourceSecurityGroupId"] == "<ManagerSecurityGroup.GroupId>"
    secrets = {one["Name"]: one["ValueFrom"] for one in _container(stack)["Secrets"]}
    assert secrets["PGPASSWORD"] == "<StoreSecret>"


@manager_rule
def managers_roles_are_narrow(stack: Stack) -> None:
    """As of the service; and jobs are what is listed: nothing may be run without a list, no role handed over."""
    _roles_are_narrow(stack)
    named = {statement["Sid"]: statement for statement in statements(stack["ManagerRole"])}
    tasks = stack.of_type("AWS::IAM::RolePolicy")
    if "HEIWA_WORKFLOWS__JOBS_URL" not in _environment(stack):
        assert not named
        assert not tasks
        return
    assert named["SubmitJobs"]["Resource"] == [
        "arn:aws:batch:eu-west-1:123456789012:job-queue/etl",
        "arn:aws:batch:eu-west-1:123456789012:job-definition/load:*",
    ]
    policy = {one["Sid"]: one for one in tasks["TaskPolicy"]["PolicyDocument"]["Statement"]}
    only = {"ArnEquals": {"ecs:cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/main"}}
    assert policy["RunTasks"]["Resource"] == "arn:aws:ecs:eu-west-1:123456789012:task-definition/load:*"
    assert policy["RunTasks"]["Condition"] == policy["WatchTasks"]["Condition"] == only
    assert policy["HandOverRoles"]["Resource"] == "arn:aws:iam::123456789012:role/load"
    assert policy["HandOverRoles"]["Condition"]["StringEquals"] == {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
