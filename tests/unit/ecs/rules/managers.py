"""Managers and their store."""

from __future__ import annotations

from gateway.settings.load import ENVIRONMENT_PREFIX, flatten
from gateway.settings.model import Settings
from tests.support.cloudformation import Stack
from tests.unit.ecs.rules.registry import (
    manager_rule,
)
from tests.unit.ecs.rules.roles import all_roles_are_narrow
from tests.unit.ecs.stacks import (
    container_of,
    environment_of,
    statements,
)


@manager_rule
def managers_are_the_program_and_hold_no_device(stack: Stack) -> None:
    """Settings that the program takes; nobody reaches a manager, so it needs no key; two at least, and new ones before
    old ones go."""
    names = {f"{ENVIRONMENT_PREFIX}{key}".replace(".", "__").upper() for key, _ in flatten(Settings())}
    container, environment = container_of(stack), environment_of(stack)
    assert {*environment, *(one["Name"] for one in container["Secrets"])} <= names | {"PGPASSWORD"}
    assert environment["HEIWA_SERVE__ROLES"] == "manager,rebalancer"
    assert {one["Name"] for one in container["Secrets"]} == {"PGPASSWORD", "HEIWA_BROKER__PASSWORD"}
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
    secrets = {one["Name"]: one["ValueFrom"] for one in container_of(stack)["Secrets"]}
    assert secrets["PGPASSWORD"] == "<StoreSecret>"


@manager_rule
def managers_roles_are_narrow(stack: Stack) -> None:
    """As of the service; and jobs are what is listed: nothing may be run without a list, no role handed over."""
    all_roles_are_narrow(stack)
    named = {statement["Sid"]: statement for statement in statements(stack["ManagerRole"])}
    tasks = stack.of_type("AWS::IAM::RolePolicy")
    if "HEIWA_WORKFLOWS__JOBS_URL" not in environment_of(stack):
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
