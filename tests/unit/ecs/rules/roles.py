"""Roles are narrow."""

from __future__ import annotations

from tests.support.cloudformation import Stack
from tests.unit.ecs.rules.registry import (
    data_rule,
    service_rule,
)
from tests.unit.ecs.stacks import (
    as_list,
    container_of,
    environment_of,
    statements,
)


def all_roles_are_narrow(stack: Stack) -> None:
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
            assert not any("*" in action for action in as_list(statement["Action"])), statement["Sid"]
            assert ("*" in as_list(statement["Resource"])) == (statement["Sid"] in everywhere), statement["Sid"]


@service_rule
def roles_are_narrow(stack: Stack) -> None:
    """As said; and ECS may pull, write the log and read the one secret, nothing else."""
    all_roles_are_narrow(stack)
    named = {statement["Sid"]: statement for statement in statements(stack["ExecutionRole"])}
    secrets = {one["Name"]: one["ValueFrom"] for one in container_of(stack)["Secrets"]}
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
    all_roles_are_narrow(stack)


@service_rule
def tasks_share_the_runs_with_managers(stack: Stack) -> None:
    """With a workflow stack: no manager here, its runners, the store, its password, the way there; else nothing."""
    environment = environment_of(stack)
    secrets = {one["Name"]: one["ValueFrom"] for one in container_of(stack)["Secrets"]}
    if "HEIWA_WORKFLOWS__STORE_URL" not in environment:
        assert not {"HEIWA_SERVE__ROLES", "HEIWA_WORKFLOWS__RUNNERS", "PGPASSWORD"} & {*environment, *secrets}
        return
    assert environment["HEIWA_WORKFLOWS__STORE_URL"] == "<imported heiwa-workflows-StoreUrl>"
    assert environment["HEIWA_SERVE__ROLES"] == "gateway"
    assert environment["HEIWA_WORKFLOWS__RUNNERS"] == "device,batch"
    assert secrets["PGPASSWORD"] == "<imported heiwa-workflows-StoreSecretArn>"
    way = stack["TasksToStore"]
    assert (way["FromPort"], way["ToPort"]) == (5432, 5432)
    assert way["GroupId"] == "<imported heiwa-workflows-StoreSecurityGroupId>"
    assert way["SourceSecurityGroupId"] == "<TaskSecurityGroup.GroupId>"
    out = [one for one in stack["TaskSecurityGroup"]["SecurityGroupEgress"] if one["FromPort"] == 5432]
    assert [(one["ToPort"], one["CidrIp"]) for one in out] == [(5432, "10.0.0.0/16")]
