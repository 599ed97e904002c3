"""compose.yaml: valid by the schema of the Compose Specification, and calm by the same rules as on ECS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from gateway.settings.load import ENVIRONMENT_PREFIX, flatten
from gateway.settings.model import Settings
from tests.support.packages import missing
from tests.unit.ecs.stacks import ROOT, dockerfile

# Where the specification's own implementation keeps its schema; the sum is that of the Go checksum database.
MODULE = "github.com/compose-spec/compose-go/v2@v2.16.2"
SUM = "h1:pTp1DqQwJzFd85GzlWsSszKA1ABrV/ySqsClujIcWA8="
FILE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
GATEWAY: dict[str, Any] = FILE["services"]["gateway"]


def _schema() -> dict[str, Any]:
    go = shutil.which("go")
    if go is None:
        missing("needs Go, to fetch the schema of the Compose Specification")
    command = [go, "mod", "download", "-json", MODULE]
    environment = {**os.environ, "GOFLAGS": "-mod=mod"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["Sum"] == SUM
    schema: dict[str, Any] = json.loads((Path(found["Dir"]) / "schema/compose-spec.json").read_text())
    return schema


def test_it_is_valid_by_the_schema() -> None:
    validator = jsonschema_rs.validator_for(_schema())
    assert [error.message for error in validator.iter_errors(FILE)] == []
    wrong = {**FILE, "services": {"gateway": {**GATEWAY, "stop_grace_periods": "40s"}}}
    assert not validator.is_valid(wrong), "the schema would take anything"


def test_the_gateway_can_do_little_and_is_for_this_machine() -> None:
    assert GATEWAY["read_only"] is True
    assert GATEWAY["cap_drop"] == ["ALL"]
    assert GATEWAY["security_opt"] == ["no-new-privileges:true"]
    assert GATEWAY["init"] is True
    port = dockerfile("EXPOSE")
    assert GATEWAY["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_its_settings_are_known() -> None:
    names = {f"{ENVIRONMENT_PREFIX}{key}".replace(".", "__").upper() for key, _ in flatten(Settings())}
    # The driver of PostgreSQL reads its own.
    for one in ("gateway", "manager"):
        assert set(FILE["services"][one]["environment"]) <= names | {"PGPASSWORD"}


def test_its_data_is_kept_and_nothing_is_cut() -> None:
    (volume,) = GATEWAY["volumes"]
    name, _, path = volume.partition(":")
    assert name in FILE["volumes"]
    assert dockerfile("VOLUME") == f'["{path}"]'
    assert int(GATEWAY["stop_grace_period"].removesuffix("s")) >= Settings().drain.stop_timeout_s + 10


@pytest.mark.parametrize("name", [name for name, one in FILE["services"].items() if "ports" not in one])
def test_nothing_else_can_be_reached_or_starts_unasked(name: str) -> None:
    assert FILE["services"][name]["profiles"]
