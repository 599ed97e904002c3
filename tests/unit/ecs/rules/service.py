"""How the service is deployed and scaled."""

from __future__ import annotations

from itertools import pairwise

from gateway.telemetry.emf import CHOSEN
from gateway.telemetry.names import NAMESPACE
from tests.support.cloudformation import Stack
from tests.unit.ecs.rules.registry import (
    service_rule,
)
from tests.unit.ecs.stacks import (
    FARGATE_MIB,
    container_of,
    environment_of,
)


def _by_weights(stack: Stack) -> bool:
    """Whether this example was deployed so."""
    return bool(stack.of_type("AWS::ElasticLoadBalancingV2::ListenerRule"))


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
    wanted = steps.get(deployment["Strategy"])
    assert [name for name in steps.values() if name in deployment] == [wanted] * (wanted is not None)
    if wanted is not None:
        percent, minutes = deployment[wanted].values()
        assert set(deployment[wanted]) in (
            {"StepPercent", "StepBakeTimeInMinutes"},
            {"CanaryPercent", "CanaryBakeTimeInMinutes"},
        )
        assert 3 <= percent <= 50
        assert minutes >= 5
    # Amazon ECS API reference, LinearConfiguration: from 3.0; a parameter has one minimum for all strategies.
    assert stack.template["Parameters"]["StepPercent"]["MinValue"] == 1
    small = stack.template["Rules"]["StepsAreNotTooSmall"]
    assert small["RuleCondition"] == {"Fn::Equals": [{"Ref": "Strategy"}, "LINEAR"]}
    (refused,) = small["Assertions"]
    assert refused["Assert"] == {"Fn::Not": [{"Fn::Contains": [["1", "2"], {"Ref": "StepPercent"}]}]}
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
    assert stack["AlternateTargetGroup"] == stack["TargetGroup"]
    if not _by_weights(stack):
        return
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
    gateway = container_of(stack)
    for name in ("Image", "User", "ReadonlyRootFilesystem", "LinuxParameters"):
        assert container[name] == gateway[name]
    command = [str(word) for word in container["Command"]]
    options = dict(pairwise(command))
    assert command[:3] == ["deploy", "guard", "--keep"]
    assert options["--service"] == stack["Service"]["ServiceName"]
    assert options["--cluster"] == stack["Service"]["Cluster"] == "<Cluster>"
    assert options["--metrics-service"] == environment_of(stack)["HEIWA_TELEMETRY__SERVICE"]
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
    assert tracking["ScaleInCooldown"] > longest_delay_s + container_of(stack)["StopTimeout"]
    connections, serving, each = tracking["CustomizedMetricSpecification"]["Metrics"]
    chosen = {(NAMESPACE, choice.name) for choice in CHOSEN}
    for one in (connections, serving):
        metric = one["MetricStat"]["Metric"]
        assert (metric["Namespace"], metric["MetricName"]) in chosen
        dimensions = {pair["Name"]: pair["Value"] for pair in metric["Dimensions"]}
        assert dimensions == {"service": environment_of(stack)["HEIWA_TELEMETRY__SERVICE"], "role": "gateway"}
    assert (connections["MetricStat"]["Stat"], serving["MetricStat"]["Stat"]) == ("Sum", "Sum")
    assert each["Expression"] == f"{connections['Id']} / {serving['Id']}"
    assert [one["ReturnData"] for one in (connections, serving, each)] == [False, False, True]
