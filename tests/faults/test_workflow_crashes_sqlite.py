"""The crash table on SQLite with real kills: the one process with all roles dies at each boundary of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.test_workflows import ON
from tests.support.gates import BOUNDARIES, SAMPLE
from tests.support.program import Program, eventually
from tests.support.sqlite_gates import SqliteGates
from tests.support.workflow_fleet import Caller, Ledger, history

pytestmark = pytest.mark.timeout(120)
ITEMS = 2


@pytest.mark.parametrize(
    "boundary", [one if one in SAMPLE else pytest.param(one, marks=pytest.mark.soak) for one in BOUNDARIES]
)
def test_the_only_server_is_killed(tmp_path: Path, boundary: str) -> None:
    ledger, gates = Ledger(tmp_path / "ledger"), SqliteGates(tmp_path / "data/workflows.db")
    with Program(tmp_path / "data", *ON) as program:
        caller = Caller(program)
        caller.call("PUT", "/api/v1/definitions", ledger.definition("ledger", ITEMS, pause="0.05"))
        gates.close(boundary)
        run = caller.run("ledger", flaky="true")
        eventually(gates.stands, what="nobody came to the gate")
        program.kill()
    gates.clear()
    with Program(tmp_path / "data", *ON) as program:
        caller = Caller(program)
        eventually(lambda: caller.status(run) == "ok", 60, f"{run} did not end")
        assert history(caller, run)[-1]["data"]["kind"] == "run_ok"
    ledger.judge([run], ITEMS)
