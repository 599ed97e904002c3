#!/usr/bin/env bash
# botocore 1.43.117 (the service model of Amazon ECS 2014-11-13): the documentation of a deployment's `lifecycleStage` lists
# PRE_PRODUCTION_TRAFFIC_SHIFT, "invoked before every traffic shift step", and hooks may stand there; the enumeration of the
# field does not have it. Who maps the field to the enumeration fails in the middle of a canary.
#
# Seen:
#   documented, not in the enumeration: PRE_PRODUCTION_TRAFFIC_SHIFT
#   for hooks: PRE_PRODUCTION_TRAFFIC_SHIFT
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check botocore==1.43.117
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import re

from botocore.session import get_session

model = get_session().get_service_model("ecs")
stage = model.shape_for("ServiceDeployment").members["lifecycleStage"]
documented = set(re.findall(r"<code>([A-Z_]+)</code>", stage.documentation)) or set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", stage.documentation))
for name in sorted(documented - set(stage.enum)):
    print(f"documented, not in the enumeration: {name}")
hooks = model.shape_for("DeploymentLifecycleHookStage")
for name in sorted(set(hooks.enum) - set(stage.enum)):
    print(f"for hooks: {name}")
PY
