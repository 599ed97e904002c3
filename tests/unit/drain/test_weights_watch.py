"""Asking for the deployment of the service: how often, what errors do (nothing), and what an old answer is worth."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest

from gateway.drain import polling
from gateway.drain.deployment import Deployment, Revision, Side, Strategy, steps
from gateway.drain.signals import Peers
from gateway.drain.states import State
from gateway.drain.weights_watch import WeightsWatch
from gateway.errors import CallError, CallErrorKind
from tests.support.draining import Fleet
from tests.support.virtual_time import run

CANARY = steps(Strategy.CANARY, 600)


def canary(weight: float, id: str = "one") -> Deployment:
    target, source = Revision("new", weight, definition="g:8"), Revision("old", definition="g:7")
    return Deployment(id, Strategy.CANARY, target, (source,), CANARY)


class Scripted:
    """The port: what it answers, one a question; the last one stays. `asked` are the moments."""

    def __init__(self, *answers: Deployment | Exception | None) -> None:
        self.answers = deque(answers)
        self.asked: list[float] = []

    async def definition(self) -> str:
        return "g:7"

    async def deployment(self) -> Deployment | None:
        self.asked.append(asyncio.get_running_loop().time())
        found = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None: ...


def watching(fleet: Fleet, port: Scripted) -> WeightsWatch:
    return WeightsWatch(port, fleet.drainer, tuple, random.Random(1), 1.0)


async def test_the_weights_of_our_own_replacement_are_followed() -> None:
    fleet = Fleet(400)
    watch = watching(fleet, Scripted(None, canary(0.0), canary(0.05), canary(0.05)))
    for state in (State.SERVING, State.SERVING, State.SHIFTING, State.SHIFTING):
        await watch.ask()
        assert fleet.drainer.state is state
    assert watch.own is Side.SOURCE
    assert sum(fleet.pass_time(60)) == pytest.approx(10, abs=1)


async def test_weights_that_moved_between_two_questions_moved_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(400)
    watch = watching(fleet, Scripted(canary(0.0), canary(0.05)))
    moved: list[float] = []
    monkeypatch.setattr(fleet.drainer, "follow_weights", lambda found, own, moved_s, old_s: moved.append(moved_s))
    began_s = fleet.drainer.now_s()
    await watch.ask()
    fleet.pass_time(30)
    await watch.ask()
    assert moved == [began_s, began_s], "nobody knows when, but not before the first question"


@pytest.mark.parametrize("kind", CallErrorKind)
async def test_an_error_changes_nothing_and_after_three_periods_nobody_moves(kind: CallErrorKind) -> None:
    fleet = Fleet(400)
    watch = watching(fleet, Scripted(canary(0.05), CallError(kind, "no")))
    await watch.ask()
    for _ in range(5):
        with pytest.raises(CallError):
            await watch.ask()
    assert fleet.drainer.state is State.SHIFTING
    assert sum(fleet.pass_time(90)) == pytest.approx(15, abs=2)
    assert sum(fleet.pass_time(300)) == 0


def test_unforeseen_answers_and_errors_end_no_task_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def whole() -> tuple[WeightsWatch, Scripted]:
        port = Scripted(canary(0.0), ValueError("unforeseen"))
        watch = watching(Fleet(1), port)
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(3600)
        assert not running.done()
        running.cancel()
        return watch, port

    watch, port = run(whole())
    assert watch.errors[CallErrorKind.OTHER] == len(port.asked) - 1 > 20
    assert not watch.signal_up
    assert [record.getMessage() for record in caplog.records].count("weights_unknown") == 1


def test_throttling_keeps_what_is_known() -> None:
    async def whole() -> WeightsWatch:
        watch = watching(Fleet(1), Scripted(canary(0.0), CallError(CallErrorKind.THROTTLED, "slow down")))
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(600)
        running.cancel()
        return watch

    assert run(whole()).signal_up


@pytest.mark.parametrize(("tasks", "period_s"), [(1, 30), (28, 30), (190, 200), (228, 240), (4000, 240)])
def test_the_period(tasks: int, period_s: float) -> None:
    assert polling.deployment_period_s(tasks) == pytest.approx(period_s)


@pytest.mark.parametrize("answer", [None, CallError(CallErrorKind.THROTTLED, "slow down")], ids=["well", "throttled"])
def test_two_hundred_tasks_together_ask_once_a_second(answer: CallError | None) -> None:
    async def whole() -> list[float]:
        ports, running = [], []
        for number in range(200):
            fleet, port = Fleet(0), Scripted(answer)
            fleet.knows(grouped=True, peers=Peers(199, 0, 199))
            watch = WeightsWatch(port, fleet.drainer, tuple, random.Random(number), 1.0)
            ports.append(port)
            running.append(asyncio.create_task(watch.run()))
        await asyncio.sleep(7200)
        for task in running:
            task.cancel()
        return [moment for port in ports for moment in port.asked]

    asked = run(whole())
    first = min(asked)
    steady = [moment - first for moment in asked if moment - first > 600]
    assert len(steady) / 6600 <= 1
    by_minute = [sum(begin <= moment < begin + 60 for moment in steady) for begin in range(600, 7140, 60)]
    assert max(by_minute) <= 110
