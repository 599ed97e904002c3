#!/usr/bin/env bash
# botocore 1.43.117 (the service model of Amazon ECS 2014-11-13): DescribeServices names the target groups of a service
# only where a person made them. Those that ECS made (Express services, services behind an ECS gateway) stand in the
# service revisions, two levels apart for the two kinds, and only one of them has the port.
#
# Seen:
#   Service: deployments.vpcLatticeConfigurations.advancedConfiguration.alternateTargetGroupArn
#   Service: deployments.vpcLatticeConfigurations.targetGroupArn
#   Service: loadBalancers.advancedConfiguration.alternateTargetGroupArn
#   Service: loadBalancers.targetGroupArn
#   Service: taskSets.loadBalancers.advancedConfiguration.alternateTargetGroupArn
#   Service: taskSets.loadBalancers.targetGroupArn
#   ServiceRevision: ecsManagedResources.gatewayConnections.resources.hostSharedAlb.alternateTargetGroupArn
#   ServiceRevision: ecsManagedResources.gatewayConnections.resources.hostSharedAlb.targetGroupArn
#   ServiceRevision: ecsManagedResources.ingressPaths.targetGroups.arn
#   ServiceRevision: ecsManagedResources.ingressPaths.targetGroups.port
#   ServiceRevision: loadBalancers.advancedConfiguration.alternateTargetGroupArn
#   ServiceRevision: loadBalancers.targetGroupArn
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check botocore==1.43.117
"$work/v/bin/python" - <<'PY' | LC_ALL=C sort | diff - <(sed -n 's/^#   //p' "$0")
from botocore.session import get_session

model = get_session().get_service_model("ecs")


def walk(shape, path):
    if shape.type_name == "list":
        yield from walk(shape.member, path)
    elif shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from walk(member, [*path, name])
    elif path[0] != "resolvedConfiguration" and "attice" not in path[0] and ("targetGroup" in path[-1] or "TargetGroup" in path[-1] or path[-2:] in (["targetGroups", "arn"], ["targetGroups", "port"])):
        yield ".".join(path)


for name in ("Service", "ServiceRevision"):
    for path in walk(model.shape_for(name), []):
        print(f"{name}: {path}")
PY
