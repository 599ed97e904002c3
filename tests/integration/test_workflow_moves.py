"""Runs between managers, in virtual time: real managers and a real rebalancer on the real statements."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.balance_store import SqlBalanceStore
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.errors import StoreError
from gateway.workflows.definition import digest, stored
from gateway.workflows.figures import BalanceFigures, ManagerFigures
from gateway.workflows.fleet import FleetSeen, Move, Orders, Share
from gateway.workflows.manager import Manager
from gateway.workflows.rebalancer import Rebalancer
from gateway.workflows.records import NewRun, SignalKind
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Submitted
from tests.simulation.inline import ENGINE
from tests.support.virtual_time import LoopClock, run
from tests.support.workflows import definition, node

ACCOUNT = "acme"
RETRY = {"max_attempts": 9, "wait_s": 3600, "max_wait_s": 3600}
FIRST = Attempt("a", 0, 1)


class Lock:
    """The Presence port, as tests want it."""

    def __init__(self, key: int) -> None:
        self.lock_key: int | None = key
        self.may_act = True


class Jobs:
    """A runner whose jobs tests end; what it was asked for, with when."""

    name = "process"
    for_admins = False

    def __init__(self, *, movable: bool = True, deduplicates: bool = False) -> None:
        self.movable, self.deduplicates = movable, deduplicates
        self.manager: Manager | None = None
        self.asked: list[tuple[float, str, Attempt]] = []
        self.calls: list[str] = []

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        return ""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self.asked.append((asyncio.get_running_loop().time(), run, attempt))
        self.calls.append("submit")
        self._report(run, Submitted(attempt, "job"))

    async def proceed(self, run: str, attempt: Attempt) -> None:
        self.calls.append("proceed")

    async def adopt(
        self,
        run: str,
        account: str,
        attempt: Attempt,
        external: str | None,
        work: Mapping[str, Any],
        *,
        wanted: bool = True,
    ) -> None:
        self.asked.append((asyncio.get_running_loop().time(), run, attempt))
        self.calls.append("adopt")

    async def stop(self, run: str, attempt: Attempt) -> None:
        self.calls.append("stop")

    async def forget(self, attempts: Sequence[str]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is held."""

    def _report(self, run: str, happening: Any) -> None:
        assert self.manager is not None
        self.manager.report(run, happening)

    def ends(self, run: str, attempt: Attempt = FIRST) -> None:
        self._report(run, Finished(attempt))

    def fails(self, run: str, attempt: Attempt = FIRST) -> None:
        self._report(run, Failed(attempt, "not yet"))


class Node:
    """A process with a manager."""

    def __init__(self, world: Fleet, name: str, jobs: Jobs) -> None:
        self.name, self.jobs = name, jobs
        self.figures = ManagerFigures()
        self.lock = Lock(len(world.nodes) + 1)
        self.store = Flaky(world.store)
        runners: Any = {"process": jobs}
        store: Any = self.store
        self.manager = Manager(
            store, runners, LoopClock(), name, f"life-{name}", presence=self.lock, figures=self.figures
        )
        jobs.manager = self.manager
        self._world = world

    async def start(self) -> None:
        await self.manager.start()
        self._world.locks.add(cast(int, self.lock.lock_key))
        self.task = asyncio.create_task(self.manager.run())

    async def die(self) -> None:
        self._world.locks.discard(cast(int, self.lock.lock_key))
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def hang(self) -> None:
        """Its loop stands: nothing more comes from it, and its lock is held by the kernel."""
        self.task.cancel()

    @property
    def runs(self) -> set[str]:
        return set(self.manager._owned)


class Flaky:
    """A store that can be told to refuse one kind of call, or to lose its next answer."""

    def __init__(self, store: SqlWorkflowStore) -> None:
        self._store = store
        self.refused = ""
        self.lost = ""

    def __getattr__(self, name: str) -> Any:
        if name == self.refused:
            return self._refuse
        if name == self.lost:
            return self._lose
        return getattr(self._store, name)

    async def _lose(self, *arguments: Any) -> None:
        name, self.lost = self.lost, ""
        await getattr(self._store, name)(*arguments)
        raise StoreError("the connection was lost behind it")

    async def _refuse(self, *_: Any, **__: Any) -> None:
        raise StoreError("not today")


class Fleet:
    """Managers, and one rebalancer. The locks that processes hold are a set."""

    def __init__(self) -> None:
        ENGINE.make_tables()
        ENGINE.time_s = lambda: asyncio.get_running_loop().time()
        self.store = SqlWorkflowStore(parse_url("sqlite://"), cast(AsyncEngine, ENGINE))
        self.locks: set[int] = set()
        self.nodes: list[Node] = []
        self.figures = BalanceFigures()
        self._balance = SqlBalanceStore(self.store)

    async def open(self, *jobs: Jobs) -> None:
        await self.store.open()
        for made in (definition({"a": node(retry=RETRY)}, name="one"), definition({"a": node()}, name="plain")):
            spec = stored(made.spec)
            await self.store.put_definition(ACCOUNT, made.spec.name, spec, digest(spec), 0)
        for one in jobs:
            await self.add(one)
        fleet: Any = self
        rebalancer = Rebalancer(fleet, LoopClock(), "r", Lock(99), self.figures)
        self._task = asyncio.create_task(rebalancer.run())

    async def add(self, jobs: Jobs) -> Node:
        made = Node(self, f"m{len(self.nodes)}", jobs)
        self.nodes.append(made)
        await made.start()
        return made

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for one in self.nodes:
            await one.die()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._balance, name)

    async def fleet(self, *, counted: bool) -> FleetSeen:
        found = await self._balance.fleet(counted=counted)
        return found._replace(locks=frozenset(self.locks), server="1")

    async def begin(self, count: int, manager: str, name: str = "one") -> list[str]:
        runs = [f"{manager}-{number:03}" for number in range(count)]
        await self.store.create([NewRun(run, ACCOUNT, name, None, {}, 0) for run in runs], manager)
        return runs


def played(test: Callable[[Fleet], Awaitable[None]]) -> Callable[[], None]:
    def play() -> None:
        async def main() -> None:
            fleet = Fleet()
            try:
                await test(fleet)
            finally:
                await fleet.close()

        run(main())

    play.__name__ = play.__qualname__ = test.__name__
    return play


@played
async def test_runs_that_wait_move_to_a_manager_that_is_new(fleet: Fleet) -> None:
    await fleet.open(Jobs())
    runs = await fleet.begin(40, "m0")
    await asyncio.sleep(3)
    for one in runs:
        fleet.nodes[0].jobs.fails(one)
    await asyncio.sleep(3)
    new = await fleet.add(Jobs())
    await asyncio.sleep(9)
    assert 1 <= len(new.runs) <= 4
    await asyncio.sleep(120)
    # Within a fifth of the mean it is left alone.
    assert 16 <= len(new.runs) <= 20
    assert fleet.nodes[0].runs | new.runs == set(runs)
    before = fleet.figures.moves["skew"]
    await asyncio.sleep(120)
    assert fleet.figures.moves["skew"] == before


@pytest.mark.parametrize("movable", [True, False])
def test_a_run_at_work_moves_only_if_another_can_go_on_with_it(movable: bool) -> None:
    async def play(fleet: Fleet) -> None:
        await fleet.open(Jobs(movable=movable))
        runs = await fleet.begin(8, "m0")
        await asyncio.sleep(3)
        new = await fleet.add(Jobs(movable=movable))
        await asyncio.sleep(60)
        assert bool(new.runs) == movable
        assert new.jobs.calls == ["adopt"] * len(new.runs)
        if not movable:
            fleet.nodes[0].jobs.fails(runs[0])
            await asyncio.sleep(60)
            assert new.runs == {runs[0]}

    played(play)()


@played
async def test_a_process_that_died_is_taken_over_for_within_three_seconds(fleet: Fleet) -> None:
    await fleet.open(Jobs(deduplicates=True), Jobs(deduplicates=True))
    runs = await fleet.begin(4, "m0")
    await asyncio.sleep(7.7)
    await fleet.nodes[0].die()
    await asyncio.sleep(3)
    assert fleet.nodes[1].runs == set(runs)
    assert fleet.figures.dead == {"lease": 0, "hint": 1}


@played
async def test_a_loop_that_stands_is_taken_over_for_when_the_lease_is_over(fleet: Fleet) -> None:
    await fleet.open(Jobs(), Jobs())
    runs = await fleet.begin(4, "m0")
    await asyncio.sleep(7.7)
    fleet.nodes[0].hang()
    await asyncio.sleep(20)
    assert not fleet.figures.dead["lease"]
    assert len(fleet.nodes[1].runs) < 3
    await asyncio.sleep(15)
    assert fleet.nodes[1].runs == set(runs)
    assert fleet.figures.dead == {"lease": 1, "hint": 0}


@pytest.mark.parametrize("deduplicates", [True, False])
def test_after_a_hint_what_may_not_have_begun_waits_for_the_end_of_the_lease(deduplicates: bool) -> None:
    async def play(fleet: Fleet) -> None:
        await fleet.open(Jobs(deduplicates=deduplicates), Jobs(deduplicates=deduplicates))
        (run,) = await fleet.begin(1, "m0")
        fleet.nodes[0].lock.may_act = False
        await asyncio.sleep(7.7)
        # It was decided, and not asked for, for it has lost its lock.
        assert not fleet.nodes[0].jobs.asked
        await fleet.nodes[0].die()
        died_s = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        ((asked_s, asked, attempt),) = fleet.nodes[1].jobs.asked
        assert (asked, attempt) == (run, FIRST)
        if deduplicates:
            assert asked_s - died_s <= 3
        else:
            # Its last sign of life was a few seconds before.
            assert 20 <= asked_s - died_s <= 31

    played(play)()


@played
async def test_a_cancel_while_it_waits_is_not_overtaken_by_the_job(fleet: Fleet) -> None:
    await fleet.open(Jobs(), Jobs())
    (run,) = await fleet.begin(1, "m0")
    fleet.nodes[0].lock.may_act = False
    await asyncio.sleep(7.7)
    await fleet.nodes[0].die()
    await asyncio.sleep(5)
    await fleet.store.signal(run, SignalKind.CANCEL, "enough", 0)
    await asyncio.sleep(60)
    assert fleet.nodes[1].jobs.calls == ["adopt", "stop"]


@played
async def test_one_that_gets_on_with_nothing_does_not_look_alive(fleet: Fleet) -> None:
    """Its heartbeats would be stored, its runs are not."""
    await fleet.open(Jobs(), Jobs())
    runs = await fleet.begin(3, "m0")
    await asyncio.sleep(3)
    fleet.nodes[0].store.refused = "commit"
    for one in runs:
        fleet.nodes[0].jobs.fails(one)
    await asyncio.sleep(52)
    assert fleet.figures.dead["lease"] == 1
    assert len(fleet.nodes[1].runs) >= 2


@played
async def test_neighbours_of_a_hog_move(fleet: Fleet) -> None:
    await fleet.open(Jobs(), Jobs())
    runs = await fleet.begin(4, "m0")
    await asyncio.sleep(3)
    for one in runs:
        fleet.nodes[0].jobs.fails(one)
    await asyncio.sleep(1)
    hog = max(fleet.nodes[0].runs)
    fleet.nodes[0].manager._slices.loop_time.spent(hog, 60, asyncio.get_running_loop().time())
    await asyncio.sleep(5)
    assert fleet.nodes[0].runs == {hog}
    assert fleet.nodes[1].runs == set(runs) - {hog}
    # New ones go to the other, too.
    await fleet.store.create([NewRun(f"new-{number}", ACCOUNT, "plain", None, {}, 0) for number in range(3)], None)
    await asyncio.sleep(5)
    assert fleet.nodes[0].runs == {hog}
    await asyncio.sleep(200)
    assert len(fleet.nodes[0].runs) > 1


@played
async def test_a_result_that_comes_while_its_run_moves_is_asked_for_again(fleet: Fleet) -> None:
    await fleet.open(Jobs())
    runs = await fleet.begin(8, "m0", "plain")
    await asyncio.sleep(3)
    new = await fleet.add(Jobs())
    await asyncio.sleep(30)
    moved = min(new.runs)
    fleet.nodes[0].jobs.ends(moved)
    assert moved in runs
    await asyncio.sleep(5)
    found = await fleet.store.run(ACCOUNT, moved)
    assert found is not None
    assert found.state.status == "running"
    new.jobs.ends(moved)
    await asyncio.sleep(1)
    found = await fleet.store.run(ACCOUNT, moved)
    assert found is not None
    assert found.state.status == "ok"


@played
async def test_a_run_that_comes_back_to_who_never_heard_that_it_had_left_goes_on(fleet: Fleet) -> None:
    """Found by a seed of the simulation: the answer to the letting go was lost, and the loop went round for ever."""
    await fleet.open(Jobs(), Jobs())
    left, back = fleet.nodes
    (run,) = await fleet.begin(1, "m0", "plain")
    await asyncio.sleep(3)
    left.store.lost = "let_go"
    (seen,) = [one for one in (await fleet.fleet(counted=True)).managers if one.id == "m0"]
    lead = await fleet.lead("r", 30, None, None)
    assert await fleet.obey(lead, Orders(moves=(Move("m0", (Share("m1", 1),), None, "skew"),)))
    await back.die()
    assert seen.runs == 1
    await asyncio.sleep(40)
    assert left.store.lost == ""
    assert left.runs == {run}
    left.jobs.ends(run)
    await asyncio.sleep(1)
    found = await fleet.store.run(ACCOUNT, run)
    assert found is not None
    assert found.state.status == "ok"
