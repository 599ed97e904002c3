"""Mistakes in the templates, one each, and who notices: a rule of ours, or cfn-lint.

cfn-lint 1.58 alone notices 14 of these 142: its schemas know the shape of values, not what they mean together.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from gateway.errors import SettingsError
from tests.support.cfn_lint import problems
from tests.support.cloudformation import read
from tests.unit.ecs.examples import examples
from tests.unit.ecs.stacks import DATA, SERVICE

REMOVED = object()
CFN_LINT = "cfn-lint"
CONTAINER = "TaskDefinition.ContainerDefinitions.0"
DEPLOYMENT = "Service.DeploymentConfiguration"
GUARD = "GuardTaskDefinition.ContainerDefinitions.0"
PAIR = "both_groups_of_a_pair_are_the_same"
DESTINATION = "Stream.AmazonopensearchserviceDestinationConfiguration"


class Mutation(NamedTuple):
    """`at`: a resource and a path in its properties, or a path from the top that begins with a slash."""

    at: str
    value: Any
    noticed_by: str


SERVICE_MUTATIONS = [
    # The load balancer and its target group.
    Mutation("Service.LoadBalancers.0.ContainerName", "gatway", "one_port_all_the_way"),
    Mutation("Service.LoadBalancers.0.ContainerPort", 8081, "one_port_all_the_way"),
    Mutation(f"{CONTAINER}.PortMappings.0.ContainerPort", 80, "one_port_all_the_way"),
    Mutation("TargetGroup.Port", 80, "one_port_all_the_way"),
    Mutation("/Resources/Service/DependsOn", REMOVED, "one_port_all_the_way"),
    Mutation("/Parameters/DeregistrationDelay/MaxValue", 4000, "the_delay_leaves_time_for_the_drain"),
    Mutation("TargetGroup.TargetGroupAttributes.0.Value", "4000", "the_delay_leaves_time_for_the_drain"),
    Mutation("TargetGroup.TargetGroupAttributes.0.Value", "0", "the_delay_leaves_time_for_the_drain"),
    Mutation("TargetGroup.TargetGroupAttributes.0", REMOVED, "the_delay_leaves_time_for_the_drain"),
    Mutation(
        "TargetGroup.TargetGroupAttributes.1.Value",
        "least_outstanding_requests",
        "routing_is_round_robin_without_stickiness",
    ),
    Mutation("TargetGroup.TargetGroupAttributes.2.Value", "true", "routing_is_round_robin_without_stickiness"),
    Mutation("TargetGroup.TargetType", "instance", "targets_are_addresses_of_tasks"),
    Mutation("TargetGroup.Protocol", "HTTPS", "targets_are_addresses_of_tasks"),
    Mutation("TargetGroup.ProtocolVersion", "HTTP2", "targets_are_addresses_of_tasks"),
    Mutation("TargetGroup.HealthCheckPath", "/readyz", "health_is_whether_the_process_lives"),
    Mutation("TargetGroup.Matcher.HttpCode", "200-499", "health_is_whether_the_process_lives"),
    Mutation("TargetGroup.HealthCheckTimeoutSeconds", 10, "health_is_whether_the_process_lives"),
    Mutation("TargetGroup.UnhealthyThresholdCount", 2, "health_is_whether_the_process_lives"),
    Mutation("LoadBalancer.LoadBalancerAttributes.0.Value", "5000", "the_balancer_outwaits_a_heartbeat"),
    Mutation("LoadBalancer.LoadBalancerAttributes.0.Value", "30", "the_balancer_outwaits_a_heartbeat"),
    Mutation("LoadBalancer.LoadBalancerAttributes.1.Value", "3600", "the_balancer_outwaits_a_heartbeat"),
    Mutation("LoadBalancer.LoadBalancerAttributes.1.Value", "1000000", "the_balancer_outwaits_a_heartbeat"),
    Mutation("LoadBalancer.Type", "network", "the_balancer_outwaits_a_heartbeat"),
    Mutation("Listener.Protocol", "HTTP", "devices_come_by_tls_only"),
    Mutation("Listener.Certificates", REMOVED, "devices_come_by_tls_only"),
    Mutation("Listener.SslPolicy", "ELBSecurityPolicy-2016-08", "devices_come_by_tls_only"),
    # The task.
    Mutation(f"{CONTAINER}.StopTimeout", 300, "a_stopped_task_has_the_longest_time"),
    Mutation(f"{CONTAINER}.StopTimeout", REMOVED, "a_stopped_task_has_the_longest_time"),
    Mutation(f"{CONTAINER}.Ulimits.0.SoftLimit", 1024, "a_websocket_is_a_file"),
    Mutation("/Mappings/Sizes/large/Connections", 60_000, "a_websocket_is_a_file"),
    Mutation(f"{CONTAINER}.User", "0", "the_task_can_do_little"),
    Mutation(f"{CONTAINER}.ReadonlyRootFilesystem", False, "the_task_can_do_little"),
    Mutation(f"{CONTAINER}.LinuxParameters.InitProcessEnabled", False, "the_task_can_do_little"),
    Mutation(f"{CONTAINER}.LinuxParameters.Capabilities", REMOVED, "the_task_can_do_little"),
    Mutation(f"{CONTAINER}.Privileged", True, "the_task_can_do_little"),
    Mutation("Service.EnableExecuteCommand", True, "the_task_can_do_little"),
    Mutation(f"{CONTAINER}.MountPoints.0.ReadOnly", True, "the_data_folder_is_a_volume"),
    Mutation(f"{CONTAINER}.MountPoints.0.ContainerPath", "/var/data", "the_data_folder_is_a_volume"),
    Mutation(f"{CONTAINER}.MountPoints.0.SourceVolume", "dat", "the_data_folder_is_a_volume"),
    Mutation("TaskDefinition.EphemeralStorage", REMOVED, "the_data_folder_is_a_volume"),
    Mutation("/Mappings/Sizes/small/Memory", "8192", "fargate_knows_the_size"),
    Mutation("/Mappings/Sizes/large/Cpu", "4096", "fargate_knows_the_size"),
    Mutation("TaskDefinition.NetworkMode", "bridge", "targets_are_addresses_of_tasks"),
    Mutation("TaskDefinition.RuntimePlatform.CpuArchitecture", "ARM64", "fargate_knows_the_size"),
    Mutation(f"{CONTAINER}.Essential", False, "the_essential_container_ends_the_task"),
    Mutation("TaskDefinition.ExecutionRoleArn", REMOVED, "logs_are_kept_and_never_waited_for"),
    Mutation(f"{CONTAINER}.LogConfiguration.Options.mode", "blocking", "logs_are_kept_and_never_waited_for"),
    Mutation(f"{CONTAINER}.LogConfiguration.Options.awslogs-region", REMOVED, "logs_are_kept_and_never_waited_for"),
    Mutation("LogGroup.RetentionInDays", REMOVED, "logs_are_kept_and_never_waited_for"),
    Mutation(f"{CONTAINER}.Environment.0.Name", "HEIWA_LISTEN_PUBLIC", "one_port_all_the_way"),
    Mutation(f"{CONTAINER}.Environment.0.Value", "127.0.0.1:8080", "one_port_all_the_way"),
    Mutation(f"{CONTAINER}.Environment.1.Value", "0.0.0.0/0", "the_balancers_word_on_addresses_is_believed"),
    Mutation(f"{CONTAINER}.Environment.2.Name", "HEIWA_TELEMETRY__EMFS", "settings_are_known_to_the_program"),
    Mutation(f"{CONTAINER}.Environment.2.Value", "maybe", "settings_are_known_to_the_program"),
    Mutation(
        f"{CONTAINER}.Environment.0",
        {"Name": "HEIWA_AUTH__SECRET", "Value": "x" * 32},
        "all_tasks_have_one_key",
    ),
    Mutation(f"{CONTAINER}.Secrets", [], "all_tasks_have_one_key"),
    Mutation("AuthSecret.GenerateSecretString.PasswordLength", 16, "a_made_secret_is_long_enough"),
    Mutation("TasksToDomain.GroupId", {"Ref": "TaskSecurityGroup"}, "all_tasks_share_the_data"),
    Mutation(f"{CONTAINER}.Environment.8", REMOVED, "all_tasks_share_the_data"),
    # The service.
    Mutation("Service.DeploymentConfiguration.Strategy", "CANARY", "a_deploy_is_one_wave"),
    Mutation("Service.DeploymentConfiguration.MaximumPercent", 100, "a_deploy_is_one_wave"),
    Mutation("Service.DeploymentConfiguration.MinimumHealthyPercent", 0, "a_deploy_is_one_wave"),
    Mutation(
        "Service.DeploymentConfiguration.DeploymentCircuitBreaker.Fn::If.2.Rollback", False, "a_deploy_is_one_wave"
    ),
    Mutation(
        "Service.DeploymentConfiguration.EarlySuccessCriteria.Fn::If.2.SourceServiceRevisionCleanup",
        "BLOCKING",
        "a_deploy_is_one_wave",
    ),
    Mutation("Service.DeploymentController.Type", "CODE_DEPLOY", "a_deploy_is_one_wave"),
    Mutation("Service.DesiredCount", 2, "nothing_moves_devices_without_need"),
    Mutation("Service.AvailabilityZoneRebalancing", REMOVED, "nothing_moves_devices_without_need"),
    Mutation("Service.HealthCheckGracePeriodSeconds", REMOVED, "nothing_moves_devices_without_need"),
    Mutation("Service.LaunchType", "EC2", "the_service_runs_the_task_on_fargate"),
    Mutation(
        "Service.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp",
        "ENABLED",
        "nobody_reaches_a_task_but_through_the_balancer",
    ),
    Mutation(
        "TaskSecurityGroup.SecurityGroupIngress.0",
        {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "CidrIp": "0.0.0.0/0"},
        "nobody_reaches_a_task_but_through_the_balancer",
    ),
    Mutation(
        "Service.NetworkConfiguration.AwsvpcConfiguration.Subnets",
        {"Ref": "PublicSubnetIds"},
        "nobody_reaches_a_task_but_through_the_balancer",
    ),
    Mutation("/Parameters/ClientCidr/Default", "0.0.0.0/0", "nobody_reaches_a_task_but_through_the_balancer"),
    Mutation("Service.SchedulingStrategy", "DAEMON", "a_deploy_is_one_wave"),
    Mutation("ScalableTarget.ResourceId", "service/gateway", "scaling_counts_connections_of_tasks_that_stay"),
    Mutation(
        "ScalingPolicy.TargetTrackingScalingPolicyConfiguration.ScaleInCooldown",
        60,
        "scaling_counts_connections_of_tasks_that_stay",
    ),
    Mutation(
        "ScalingPolicy.TargetTrackingScalingPolicyConfiguration.CustomizedMetricSpecification.Metrics.2.Expression",
        "serving / connections",
        "scaling_counts_connections_of_tasks_that_stay",
    ),
    Mutation(
        "ScalingPolicy.TargetTrackingScalingPolicyConfiguration.CustomizedMetricSpecification.Metrics.0.MetricStat.Metric"
        ".MetricName",
        "heiwa_connection",
        "scaling_counts_connections_of_tasks_that_stay",
    ),
    # Weights.
    Mutation("/Parameters/Strategy/Default", "CANARY", "a_deploy_is_one_wave"),
    Mutation("/Parameters/BakeMinutes/MinValue", 0, "weights_have_their_steps"),
    Mutation(f"{DEPLOYMENT}.BakeTimeInMinutes", REMOVED, "weights_have_their_steps"),
    Mutation(f"{DEPLOYMENT}.CanaryConfiguration", REMOVED, "weights_have_their_steps"),
    Mutation(f"{DEPLOYMENT}.LinearConfiguration.Fn::If.0", "ByWeights", "weights_have_their_steps"),
    Mutation(f"{DEPLOYMENT}.DeploymentCircuitBreaker.Fn::If.0", "IsCanary", "weights_have_their_steps"),
    Mutation(f"{DEPLOYMENT}.LifecycleHooks.Fn::If.1.0.TargetType", "AWS_LAMBDA", "weights_have_their_steps"),
    Mutation(
        f"{DEPLOYMENT}.LifecycleHooks.Fn::If.1.0.LifecycleStages.0",
        "PRODUCTION_TRAFFIC_SHIFT",
        "weights_have_their_steps",
    ),
    Mutation(
        f"{DEPLOYMENT}.LifecycleHooks.Fn::If.1.0.TimeoutConfiguration.Action", "CONTINUE", "weights_have_their_steps"
    ),
    Mutation("AlternateTargetGroup.HealthCheckPath", "/readyz", PAIR),
    Mutation("AlternateTargetGroup.TargetGroupAttributes.0.Value", "0", PAIR),
    Mutation("ProductionRule.Conditions.0.PathPatternConfig.Values.0", "/ws", PAIR),
    Mutation("ProductionRule.Actions.0.ForwardConfig.TargetGroups.1.Weight", 50, PAIR),
    Mutation(
        "Service.LoadBalancers.0.AdvancedConfiguration.Fn::If.1.RoleArn",
        {"Fn::GetAtt": ["TaskRole", "Arn"]},
        PAIR,
    ),
    Mutation("BalancerRole.ManagedPolicyArns.0", "arn:aws:iam::aws:policy/AdministratorAccess", PAIR),
    Mutation(f"{GUARD}.Command.4", "gatway", "the_guard_is_the_program"),
    Mutation(f"{GUARD}.Command.10", {"Ref": "Cluster"}, "the_guard_is_the_program"),
    Mutation(f"{GUARD}.User", "0", "the_guard_is_the_program"),
    Mutation("GuardTaskDefinition.TaskRoleArn", {"Fn::GetAtt": ["TaskRole", "Arn"]}, "the_guard_is_the_program"),
    Mutation("GuardRole.Policies.0.PolicyDocument.Statement.1.Resource", "*", "roles_are_narrow"),
    Mutation("GuardRole.Policies.0.PolicyDocument.Statement.1.Action.0", "ecs:*", "roles_are_narrow"),
    # Roles.
    Mutation("TaskRole.Policies.0.PolicyDocument.Statement.1.Resource", "*", "roles_are_narrow"),
    Mutation("TaskRole.Policies.0.PolicyDocument.Statement.0.Action", "elasticloadbalancing:*", "roles_are_narrow"),
    Mutation("TaskRole.AssumeRolePolicyDocument.Statement.0.Condition", REMOVED, "roles_are_narrow"),
    Mutation("TaskRole.ManagedPolicyArns", ["arn:aws:iam::aws:policy/AdministratorAccess"], "roles_are_narrow"),
    Mutation("ExecutionRole.Policies.0.PolicyDocument.Statement.3", REMOVED, "roles_are_narrow"),
    Mutation("ExecutionRole.Policies.0.PolicyDocument.Statement.4", REMOVED, "roles_are_narrow"),
    # The way from task to task.
    Mutation(f"{CONTAINER}.Environment.10", REMOVED, "tasks_reach_each_other_through_the_broker"),
    Mutation(f"{CONTAINER}.Secrets.1", REMOVED, "tasks_reach_each_other_through_the_broker"),
    Mutation("TasksToBroker.FromPort", 443, "tasks_reach_each_other_through_the_broker"),
    Mutation("TasksToBroker.GroupId", {"Ref": "TaskSecurityGroup"}, "tasks_reach_each_other_through_the_broker"),
    Mutation("TaskSecurityGroup.SecurityGroupEgress.1", REMOVED, "tasks_reach_each_other_through_the_broker"),
    Mutation("TaskSecurityGroup.SecurityGroupEgress.2", REMOVED, "tasks_share_the_runs_with_managers"),
    Mutation(
        "TaskSecurityGroup.SecurityGroupEgress.1.CidrIp", "0.0.0.0/0", "tasks_reach_each_other_through_the_broker"
    ),
    # Mistakes of form.
    Mutation("Service.TaskDefinition", {"Ref": "TaskDefinitions"}, CFN_LINT),
    Mutation("Service.DeploymentConfigurations", {}, CFN_LINT),
    Mutation("Cluster.CapacityProviders", "FARGATE", CFN_LINT),
    Mutation("/Resources/LogGroup/Type", "AWS::Logs::LogGroups", CFN_LINT),
    Mutation("/Outputs/Logs/Value", {"Ref": "LogGroups"}, CFN_LINT),
    Mutation("/Parameters/MinTasks/Default", 1, CFN_LINT),
]
DATA_MUTATIONS = [
    Mutation(
        f"{DESTINATION}.DocumentIdOptions.DefaultDocumentIdFormat",
        "FIREHOSE_DEFAULT",
        "overflow_has_no_id_of_firehoses",
    ),
    Mutation(f"{DESTINATION}.IndexRotationPeriod", "OneDay", "overflow_has_no_id_of_firehoses"),
    Mutation(f"{DESTINATION}.RetryOptions.DurationInSeconds", 0, "what_cannot_be_delivered_is_kept"),
    Mutation(f"{DESTINATION}.S3BackupMode", "AllDocuments", "what_cannot_be_delivered_is_kept"),
    Mutation("/Resources/FailedDocuments/DeletionPolicy", "Delete", "what_cannot_be_delivered_is_kept"),
    Mutation(
        "FailedDocuments.PublicAccessBlockConfiguration.BlockPublicAcls", False, "what_cannot_be_delivered_is_kept"
    ),
    Mutation(f"{DESTINATION}.BufferingHints.SizeInMBs", 50, "firehose_reaches_the_domain_before_it_is_asked"),
    Mutation("/Resources/Stream/DependsOn", REMOVED, "firehose_reaches_the_domain_before_it_is_asked"),
    Mutation(
        "StreamPolicy.PolicyDocument.Statement.1.Action",
        ["s3:GetObject"],
        "firehose_reaches_the_domain_before_it_is_asked",
    ),
    Mutation("Domain.NodeToNodeEncryptionOptions.Enabled", False, "the_domain_is_closed"),
    Mutation("Domain.AccessPolicies.Statement.0.Principal", {"AWS": "*"}, "the_domain_is_closed"),
    Mutation("Domain.ClusterConfig.InstanceCount", 3, "the_domain_is_closed"),
    Mutation(
        "/Outputs/Stream/Export/Name", {"Fn::Sub": "${AWS::StackName}-Streams"}, "what_the_service_imports_is_exported"
    ),
    Mutation("Broker.TransitEncryptionEnabled", False, "the_broker_is_closed_and_keeps_what_it_is_told"),
    Mutation("Broker.AuthToken", REMOVED, "the_broker_is_closed_and_keeps_what_it_is_told"),
    Mutation("Broker.AuthToken", "a-password-in-the-template", "the_broker_is_closed_and_keeps_what_it_is_told"),
    Mutation("Broker.NumNodeGroups", 2, "the_broker_is_closed_and_keeps_what_it_is_told"),
    Mutation("Broker.AutomaticFailoverEnabled", False, "the_broker_is_closed_and_keeps_what_it_is_told"),
    Mutation("Broker.CacheParameterGroupName", REMOVED, "the_broker_is_closed_and_keeps_what_it_is_told"),
    Mutation("Broker.EngineVersion", "7.2", "the_broker_is_closed_and_keeps_what_it_is_told"),
    Mutation(
        "BrokerParameters.Properties",
        {"maxmemory-policy": "volatile-lru"},
        "the_broker_is_closed_and_keeps_what_it_is_told",
    ),
    Mutation(
        "BrokerSecurityGroup.SecurityGroupIngress",
        [{"IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379, "CidrIp": "0.0.0.0/0"}],
        "the_broker_is_closed_and_keeps_what_it_is_told",
    ),
    Mutation(
        "/Outputs/BrokerUrl/Value",
        {"Fn::Sub": "redis://${Broker.PrimaryEndPoint.Address}:${Broker.PrimaryEndPoint.Port}"},
        "the_broker_is_closed_and_keeps_what_it_is_told",
    ),
    Mutation("BrokerSecret.GenerateSecretString.ExcludePunctuation", False, "the_brokers_password_is_one"),
    Mutation("StreamRole.AssumeRolePolicyDocument.Statement.0.Condition", REMOVED, "firehoses_role_is_narrow"),
]
CASES = [*((True, one) for one in SERVICE_MUTATIONS), *((False, one) for one in DATA_MUTATIONS)]


def _mutated(template: dict[str, Any], mutation: Mutation) -> dict[str, Any]:
    if mutation.at.startswith("/"):
        path = mutation.at[1:].split("/")
    else:
        name, *rest = mutation.at.split(".")
        path = ["Resources", name, "Properties", *rest]
    changed = copy.deepcopy(template)
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[int(step) if isinstance(parent, list) else step]
    last: Any = int(path[-1]) if isinstance(parent, list) else path[-1]
    if mutation.value is REMOVED:
        del parent[last]
    else:
        assert isinstance(parent, list) or parent.get(last) != mutation.value, "nothing was changed"
        parent[last] = mutation.value
    return changed


def _noticed(template: dict[str, Any], of_service: bool) -> Iterator[str]:
    for example in examples(template, None) if of_service else examples(None, template):
        for name, rule in example.rules.items():
            try:
                rule(example.stack)
            except (AssertionError, LookupError, TypeError, ValueError, AttributeError, SettingsError):
                yield name


@pytest.mark.parametrize(("of_service", "mutation"), CASES, ids=lambda one: getattr(one, "at", None) or "")
def test_a_mistake_is_noticed(of_service: bool, mutation: Mutation) -> None:
    template = _mutated(read(SERVICE if of_service else DATA), mutation)
    if mutation.noticed_by == CFN_LINT:
        assert problems(json.dumps(template))
    else:
        assert mutation.noticed_by in set(_noticed(template, of_service))
