"""The crash table with Redis as what dies: it is killed, hangs, or comes back empty at each boundary of a run's life.

It carries hints only. So the run goes on, and whoever watches it through another process gets every event once and in
order: at once where Redis works, within a poll of the store where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.gates import BOUNDARIES, Gates
from tests.support.postgres import Postgres
from tests.support.program import eventually, receive, send
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.workflow_fleet import Caller, Fleet, Ledger

pytestmark = pytest.mark.timeout(180)
ITEMS = 2
WITHIN_S = 40.0
HOW = ("killed", "hung", "empty")
# `make soak` has them all.
SAMPLE = {
    ("killed", "its end is being stored"),
    ("hung", "the run's end is being stored"),
    ("empty", "the next attempt is being stored"),
}


class World:
    """A gateway with a subscriber, a manager, PostgreSQL and Redis between them."""

    def __init__(self, path: Path, postgres: Postgres, stack: ExitStack) -> None:
        url = postgres.url()
        self.redis = RedisServer(redis_binary(), path)
        self.redis.start()
        stack.callback(self.redis.kill)
        fleet = Fleet(path, url, stack, f"broker.url={self.redis.url}")
        self.gateway = fleet.start("gateway")
        fleet.start("manager")
        self.gates = Gates(url)
        stack.callback(self.gates.end)
        self.ledger = Ledger(path / "ledger")
        self.caller = Caller(self.gateway)
        self.caller.call("PUT", "/api/v1/definitions", self.ledger.definition("ledger", ITEMS))
        self.watcher: Any = stack.enter_context(self.gateway.connect("watcher", scope="progress:read"))
        self.runs: list[str] = []

    def begin(self) -> str:
        """A run whose first attempt fails, and the watcher on its channel."""
        run = str(self.caller.run("ledger", flaky="true"))
        send(self.watcher, {"type": "subscribe", "channel": f"workflow:{run}", "after": 0})
        assert receive(self.watcher, "subscribed")["channel"] == f"workflow:{run}"
        self.runs.append(run)
        return run

    def follow(self, run: str) -> list[int]:
        """The offsets that the watcher gets, up to the run's end."""
        offsets: list[int] = []
        while True:
            event = receive(self.watcher, "event", WITHIN_S)
            assert event["channel"] == f"workflow:{run}"
            offsets.append(event["offset"])
            if event["data"]["kind"] == "run_ok":
                return offsets

    def strike(self, how: str) -> None:
        if how == "hung":
            self.redis.freeze()
        else:
            self.redis.kill()
        if how == "empty":
            self.redis.start()

    def heal(self, how: str) -> None:
        if how == "hung":
            self.redis.thaw()
        elif how == "killed":
            self.redis.start()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("broker"), postgres, stack)


@pytest.mark.parametrize(
    ("how", "boundary"),
    [
        pytest.param(how, boundary, marks=() if (how, boundary) in SAMPLE else pytest.mark.soak)
        for how in HOW
        for boundary in BOUNDARIES
    ],
)
def test_redis_is_gone_and_no_event_is(world: World, how: str, boundary: str) -> None:
    world.gates.close(*BOUNDARIES[boundary])
    run = world.begin()
    eventually(world.gates.stands, what="nobody came to the gate")
    world.strike(how)
    world.gates.open()
    # Also while it is away.
    offsets = world.follow(run)
    assert offsets == list(range(1, len(offsets) + 1))
    world.heal(how)
    again = world.begin()
    offsets = world.follow(again)
    assert offsets == list(range(1, len(offsets) + 1))
    world.ledger.judge(world.runs, ITEMS)
