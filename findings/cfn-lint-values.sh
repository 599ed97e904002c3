#!/usr/bin/env bash
# cfn-lint 1.58.0 looks at the shape of values, not at what they mean for a service on Fargate. Each of these is outside of
# what the documentation of ECS and Elastic Load Balancing allows, and none is told.
#
# Seen:
#   stopTimeout 300, of at most 120: nothing
#   idle time-out 5000, of at most 4000: nothing
#   deregistration delay 4000, of at most 3600: nothing
#   a container that the load balancer names and the task does not have: nothing
#   target type instance for tasks with an address of their own: nothing
#   awslogs without an execution role: nothing
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check cfn-lint==1.58.0
cat > "$work/good.yaml" <<'YAML'
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Vpc: { Type: "AWS::EC2::VPC::Id" }
  Subnets: { Type: "List<AWS::EC2::Subnet::Id>" }
  Image: { Type: String }
Resources:
  Cluster: { Type: "AWS::ECS::Cluster" }
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{ Effect: Allow, Principal: { Service: ecs-tasks.amazonaws.com }, Action: "sts:AssumeRole" }]
  Group:
    Type: AWS::ElasticLoadBalancingV2::TargetGroup
    Properties:
      VpcId: !Ref Vpc
      Protocol: HTTP
      Port: 8080
      TargetType: ip
      TargetGroupAttributes: [{ Key: deregistration_delay.timeout_seconds, Value: "300" }]
  Balancer:
    Type: AWS::ElasticLoadBalancingV2::LoadBalancer
    Properties:
      Subnets: !Ref Subnets
      LoadBalancerAttributes: [{ Key: idle_timeout.timeout_seconds, Value: "120" }]
  Listener:
    Type: AWS::ElasticLoadBalancingV2::Listener
    Properties:
      LoadBalancerArn: !Ref Balancer
      Port: 80
      Protocol: HTTP
      DefaultActions: [{ Type: forward, TargetGroupArn: !Ref Group }]
  Task:
    Type: AWS::ECS::TaskDefinition
    Properties:
      RequiresCompatibilities: [FARGATE]
      NetworkMode: awsvpc
      Cpu: "256"
      Memory: "512"
      ExecutionRoleArn: !GetAtt Role.Arn
      ContainerDefinitions:
        - Name: web
          Image: !Ref Image
          StopTimeout: 120
          PortMappings: [{ ContainerPort: 8080 }]
          LogConfiguration: { LogDriver: awslogs, Options: { awslogs-group: web, awslogs-region: !Ref "AWS::Region", awslogs-stream-prefix: web } }
  Service:
    Type: AWS::ECS::Service
    DependsOn: Listener
    Properties:
      Cluster: !Ref Cluster
      LaunchType: FARGATE
      TaskDefinition: !Ref Task
      NetworkConfiguration: { AwsvpcConfiguration: { Subnets: !Ref Subnets } }
      LoadBalancers: [{ ContainerName: web, ContainerPort: 8080, TargetGroupArn: !Ref Group }]
YAML
try() {
    sed "$2" "$work/good.yaml" > "$work/bad.yaml"
    if cmp -s "$work/good.yaml" "$work/bad.yaml"; then echo "$1: nothing was changed"; return; fi
    echo "$1: $("$work/v/bin/cfn-lint" --format parseable "$work/bad.yaml" > "$work/said" && echo nothing || head -1 "$work/said")"
}
{
    "$work/v/bin/cfn-lint" "$work/good.yaml"
    try "stopTimeout 300, of at most 120" 's/StopTimeout: 120/StopTimeout: 300/'
    try "idle time-out 5000, of at most 4000" 's/Value: "120"/Value: "5000"/'
    try "deregistration delay 4000, of at most 3600" 's/Value: "300"/Value: "4000"/'
    try "a container that the load balancer names and the task does not have" 's/ContainerName: web/ContainerName: wep/'
    try "target type instance for tasks with an address of their own" 's/TargetType: ip/TargetType: instance/'
    try "awslogs without an execution role" '/ExecutionRoleArn/d'
} | diff - <(sed -n 's/^#   //p' "$0")
