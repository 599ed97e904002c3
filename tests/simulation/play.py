"""Plays one seed: clients, the many lives of managers and rebalancers, a judgement.

`python -m tests.simulation.play SEED` shows it.
"""

from __future__ import annotations

import asyncio
import sys
from random import Random
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.workflows.definition import digest, stored
from gateway.workflows.records import NewRun, SignalKind
from gateway.workflows.states import is_run_over
from tests.simulation.inline import ENGINE
from tests.simulation.judging import judge
from tests.simulation.life import BOTH, MANAGER, REBALANCER, Life
from tests.simulation.world import World
from tests.support.virtual_time import run as in_virtual_time
from tests.support.workflows import definition, node

ACCOUNT = "acme"
TRACE_LINES = 20
MAX_LIVES = 20
# Long after the last retry of the slowest run.
PATIENCE_S = 10_000.0


class Failure(AssertionError):
    """What went wrong, with the end of the trace and how to see it again."""

    def __init__(self, seed: int, problem: str, trace: list[str]) -> None:
        lines = "\n".join(trace[-TRACE_LINES:])
        super().__init__(f"{problem}\n{lines}\nplay it again: python -m tests.simulation.play {seed}")


def play(seed: int) -> World:
    """Raises Failure."""
    world = World(Random(seed))
    try:
        in_virtual_time(_play(world))
    except AssertionError as error:
        raise Failure(seed, str(error), world.trace) from error
    return world


async def _play(world: World) -> None:
    ENGINE.make_tables()
    ENGINE.time_s = world.now_s
    store = SqlWorkflowStore(parse_url("sqlite://"), cast(AsyncEngine, ENGINE))
    await store.open()
    made = {name: definition(nodes, name=name) for name, nodes in _definitions(world.chance).items()}
    for one in made.values():
        spec = stored(one.spec)
        await store.put_definition(ACCOUNT, one.spec.name, spec, digest(spec), 0)
    shared = world.chance.random() < 0.5
    lives = asyncio.create_task(_lives(world, store, shared), name="lives")
    clients = asyncio.create_task(_clients(world, store, sorted(made), "m-0" if shared else "local"), name="clients")
    done, _ = await asyncio.wait([lives, clients], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    try:
        if lives in done:
            raise AssertionError(f"the manager ended: {lives.exception()!r}") from lives.exception()
        assert clients in done, "the runs did not end"
        await judge(world, store, ACCOUNT, await clients, made)
    finally:
        lives.cancel()
        clients.cancel()
        await asyncio.gather(lives, clients, return_exceptions=True)
        await store.close()


async def _lives(world: World, store: Any, shared: bool) -> None:
    """One life after the other; some of the stopped ones wake up beside later ones.

    `shared`: each has a name of its own, and two of them are there at a time; else each takes the name of the last.
    """
    past: list[Life] = []
    try:
        for number in range(MAX_LIVES):
            last = number == MAX_LIVES - 1
            roles = (BOTH if last else world.chance.choice([MANAGER, BOTH, BOTH, REBALANCER])) if shared else MANAGER
            life = Life(world, store, f"m-{number}" if shared else "local", number, roles)
            # The last one is immortal, so that there is an end.
            life.mortal = not last
            past.append(life)
            life.begin()
            if shared and number == 0:
                continue
            await (past[-2] if shared and world.chance.random() < 0.5 else life).over()
            if world.chance.random() < 0.5 and len(past) > 3:
                await past.pop(0).end()
            for other in past:
                if world.chance.random() < 0.3:
                    asyncio.get_running_loop().call_later(world.chance.choice([0.1, 1, 5, 40]), other.wake)
            await asyncio.sleep(world.chance.choice([0, 0.5, 10]))
        await past[-1].over()
        # One that was stopped before it registered takes the name of the last when it wakes up: that is started again.
        for number in range(MAX_LIVES, 2 * MAX_LIVES):
            if not past[-1].replaced:
                return
            life = Life(world, store, "local", number)
            life.mortal = False
            past.append(life)
            life.begin()
            await life.over()
    finally:
        for life in past:
            await life.end()


async def _clients(world: World, store: Any, names: list[str], first: str) -> list[str]:
    """Begin runs, each key several times, cancel and resume some; the ids of all, once they are over."""
    chance = world.chance
    runs: dict[str, None] = {}
    for number in range(chance.randint(1, 5)):
        for attempt in range(chance.randint(1, 2)):
            new = NewRun(f"run-{number}-{attempt}", ACCOUNT, chance.choice(names), None, {}, 0, f"key-{number}")
            manager = first if chance.random() < 0.7 else None
            created = await store.create([new], manager)
            runs[created[0][0]] = None
        await asyncio.sleep(chance.choice([0, 0.01, 2]))
    for run in runs:
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice([0, 0.1, 3, 20]))
            world.note(f"cancel {run}")
            await store.signal(run, SignalKind.CANCEL, "cancelled", 0)
    resumes = 2
    while True:
        await asyncio.sleep(7)
        details = [await store.run(ACCOUNT, run) for run in runs]
        if all(is_run_over(detail.state.status) for detail in details):
            bad = [one.summary.id for one in details if one.state.status != "ok"]
            if not bad or not resumes:
                return list(runs)
            resumes -= 1
            world.note(f"resume {bad[0]}")
            await store.signal(bad[0], SignalKind.RESUME, None, 0)


def _definitions(chance: Random) -> dict[str, dict[str, Any]]:
    retry = {"max_attempts": 3, "wait_s": chance.choice([0, 1, 60]), "backoff": 1}
    items = {"items": [0, 1, 2, 3], "max_parallel": chance.randint(1, 3)}
    policy = chance.choice(["fail", "skip", "continue"])
    return {
        "line": {"a": node(retry=retry), "b": node(needs=["a"], timeout_s=10, retry=retry)},
        "fan": {"a": node(), "b": node(needs=["a"], for_each=items, on_error=policy), "c": node(needs=["b"])},
        "poll": {"p": node(repeat={"until": "${p.ready}", "max_iterations": 4, "wait_s": 2}, retry=retry)},
        "tree": {
            "n": node(workflow={"name": "line"}, retry=retry),
            "m": node(workflow={"name": "missing"}, on_error="skip"),
        },
    }


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print("\n".join(play(int(argument)).trace))
