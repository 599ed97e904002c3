"""The crash table with real kills: each process of a fleet dies, or is stopped, at each boundary of a run's life.

A gate in the database holds a transaction at the boundary. Whatever dies there, every job is done once, and the history
has no gap.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.gates import BOUNDARIES, CREATING, SAMPLE, TAKING_OVER, Gates
from tests.support.postgres import Postgres
from tests.support.program import Program, eventually
from tests.support.workflow_fleet import Caller, Fleet, Ledger, history, persistent, runs_of

pytestmark = pytest.mark.timeout(180)
ITEMS = 2


class World:
    """A gateway, a rebalancer and one manager; of the last two there are new ones whenever they die."""

    def __init__(self, path: Path, server: Postgres, stack: ExitStack) -> None:
        self.server = server
        url = server.url()
        self.fleet = Fleet(path, url, stack, "workflows.lease_s=3")
        self.gateway = self.fleet.start("gateway")
        self.rebalancer = self.fleet.start("rebalancer")
        self.manager = self.fleet.start("manager")
        self.gates = Gates(url)
        stack.callback(self.gates.end)
        self.ledger = Ledger(path / "ledger")
        self.caller = Caller(self.gateway)
        self.caller.call("PUT", "/api/v1/definitions", self.ledger.definition("ledger", ITEMS))
        self.runs: list[str] = []

    def begin(self, *, flaky: bool = True) -> str:
        self.runs.append(self.caller.run("ledger", flaky="true" if flaky else "false"))
        return self.runs[-1]

    def _is_ok(self, run: str) -> bool:
        return bool(persistent(lambda: self.caller.status(run)) == "ok")

    def judge(self) -> None:
        """Every run so far."""
        for run in self.runs:
            eventually(partial(self._is_ok, run), 60, f"{run} did not end")
            assert history(self.caller, run)[-1]["data"]["kind"] == "run_ok"
        self.ledger.judge(self.runs, ITEMS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, own_postgres: Postgres) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("crashes"), own_postgres, stack)


@pytest.mark.parametrize(
    "boundary", [one if one in SAMPLE else pytest.param(one, marks=pytest.mark.soak) for one in BOUNDARIES]
)
def test_a_manager_is_killed(world: World, boundary: str) -> None:
    world.gates.close(*BOUNDARIES[boundary])
    world.begin()
    eventually(world.gates.stands, what="nobody came to the gate")
    world.manager.kill()
    world.gates.open()
    world.manager = world.fleet.start("manager")
    world.judge()


@pytest.mark.soak
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_manager_is_stopped_and_wakes_up(world: World, boundary: str) -> None:
    world.gates.close(*BOUNDARIES[boundary])
    world.begin()
    eventually(world.gates.stands, what="nobody came to the gate")
    ghost, world.manager = world.manager, world.fleet.start("manager")
    ghost.process.send_signal(signal.SIGSTOP)
    world.gates.open()
    world.judge()
    ghost.process.send_signal(signal.SIGCONT)
    again = world.begin()
    eventually(lambda: world.caller.status(again) == "ok", 30, "it holds others up")
    eventually(lambda: "workflow_lease_lost" in {event["event"] for event in ghost.events()}, what="it does not see it")
    world.judge()
    assert ghost.terminate() == 0


@pytest.mark.parametrize(
    "boundary",
    [
        one if one == "where it will be found is being stored" else pytest.param(one, marks=pytest.mark.soak)
        for one in BOUNDARIES
    ],
)
def test_the_database_is_killed(world: World, boundary: str) -> None:
    world.gates.close(*BOUNDARIES[boundary])
    world.begin()
    eventually(world.gates.stands, what="nobody came to the gate")
    world.server.stop("immediate")
    world.gates.open()
    world.server.start()
    world.judge()


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)])
def test_the_rebalancer_is_gone_in_the_middle_of_a_take_over(world: World, how: signal.Signals) -> None:
    world.gates.close(*TAKING_OVER)
    world.begin()
    eventually(lambda: sum(runs_of([world.manager])) >= 1, what="it has no run")
    world.manager.kill()
    eventually(world.gates.stands, what="nobody takes over")
    ghost = world.rebalancer
    ghost.process.send_signal(how)
    world.gates.open()
    world.rebalancer, world.manager = world.fleet.start("rebalancer"), world.fleet.start("manager")
    world.judge()
    ghost.process.send_signal(signal.SIGCONT)
    ghost.process.terminate()
    ghost.process.wait(30)


def test_the_gateway_is_killed_while_it_begins_a_run(world: World) -> None:
    """Who repeats the key gets one run."""
    world.gates.close(*CREATING)
    body = json.dumps({"definition": "ledger", "input": {"flaky": "false"}})
    doomed = world.fleet.start("gateway")
    asking = threading.Thread(target=_ask, args=(doomed, body))
    asking.start()
    eventually(world.gates.stands, what="nobody came to the gate")
    doomed.kill()
    asking.join(30)
    world.gates.open()
    ids = {world.caller.call("POST", "/api/v1/workflows", body, Idempotency_Key="once")["run"]["id"] for _ in range(2)}
    assert len(ids) == 1
    world.runs += ids
    world.judge()
    assert len(world.caller.call("GET", "/api/v1/workflows?limit=1000")["runs"]) == len(world.runs)


def _ask(gateway: Program, body: str) -> None:
    """It is killed before it can answer."""
    with contextlib.suppress(OSError):
        Caller(gateway).call("POST", "/api/v1/workflows", body, Idempotency_Key="once")
