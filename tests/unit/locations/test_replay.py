import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.errors import StoreError
from gateway.locations import replay as module
from gateway.locations.batch import DeviceEvents, items
from gateway.locations.counters import Counters
from gateway.locations.outcome import Rejection
from gateway.locations.ports import SpoolRecord
from gateway.locations.replay import INDEX_RETRY_S, Replay
from tests.support.locations import event
from tests.support.pipelines import Stores


class Parts(Stores):
    def __init__(self) -> None:
        super().__init__()
        self.counters = Counters()
        self.replay = Replay(self.index, self.spool, self.letters, self.clock, lambda: False, self.counters)

    async def spooled(self, *names: str) -> None:
        await self.spool.append([DeviceEvents("a", "d", [event(name)]) for name in names])
        self.replay.wake()

    async def run_until_empty(self) -> None:
        task = asyncio.create_task(self.replay.run())
        await self.spool.changes.wait_for(lambda: not self.spool.events)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_records_go_to_the_index_oldest_first_and_are_removed() -> None:
    parts = Parts()
    await parts.spooled("1", "2")
    await parts.spooled("3")
    await parts.run_until_empty()
    assert [key[2] for key in parts.index.stored] == ["1", "2", "3"]
    assert parts.index.batches == [2, 1]
    assert parts.counters.replayed == 3


async def test_it_wakes_when_something_is_spooled() -> None:
    parts = Parts()
    task = asyncio.create_task(parts.replay.run())
    await asyncio.sleep(0)
    await parts.spooled("1")
    await parts.spool.changes.wait_for(lambda: not parts.spool.events)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(parts.index.stored) == 1


async def test_poison_becomes_a_dead_letter_and_the_rest_is_stored() -> None:
    parts = Parts()
    parts.index.answer = lambda groups: {1: Rejection("bad", poison=True)}
    await parts.spooled("1", "2", "3")
    await parts.run_until_empty()
    assert [group.events[0].id for group, _ in parts.letters.letters] == ["2"]
    assert [key[2] for key in parts.index.stored] == ["1", "3"]


async def test_poison_that_cannot_be_buried_stays_in_the_spool() -> None:
    parts = Parts()
    parts.letters.fails = True
    parts.index.answer = lambda groups: {0: Rejection("bad", poison=True)}
    await parts.spooled("1")
    task = asyncio.create_task(parts.replay.run())
    await parts.index.changes.wait_for(lambda: bool(parts.index.batches))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert parts.spool.events == 1


async def test_what_the_index_chokes_on_becomes_a_dead_letter_and_the_record_goes() -> None:
    parts = Parts()

    def choke(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        if any(one.id == "2" for _, one in items(groups)):
            raise KeyError("bad")
        return {}

    parts.index.answer = choke
    await parts.spooled("1", "2", "3")
    await parts.spooled("4")
    await parts.run_until_empty()
    assert [group.events[0].id for group, _ in parts.letters.letters] == ["2"]
    assert sorted(key[2] for key in parts.index.stored) == ["1", "3", "4"]


async def test_a_record_that_raises_is_set_aside_and_the_ones_behind_it_go_on() -> None:
    parts = Parts()
    remove = parts.spool.remove

    async def choke(number: int) -> None:
        if number == 1:
            raise OverflowError("a bug")
        await remove(number)

    parts.spool.remove = choke  # type: ignore[method-assign]
    await parts.spooled("1")
    await parts.spooled("2")
    await parts.run_until_empty()
    assert [[one.id for _, one in items(groups)] for groups in parts.spool.aside] == [["1"]]
    assert [key[2] for key in parts.index.stored] == ["1", "2"]


async def test_a_record_is_split_what_is_taken_goes_and_the_rest_stays() -> None:
    parts = Parts()
    parts.index.answer = lambda groups: {
        position: Rejection("busy") for position, (_, one) in enumerate(items(groups)) if one.id == "2"
    }
    await parts.spooled("1", "2", "3")
    task = asyncio.create_task(parts.replay.run())
    await parts.spool.changes.wait_for(lambda: parts.spool.events == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [one.id for _, one in items(parts.spool.records[1])] == ["2"]
    assert parts.counters.replayed == 2


def test_after_a_failure_the_index_rests() -> None:
    parts = Parts()
    assert parts.replay.index_works()
    parts.replay.index_failed(StoreError("gone"))
    assert not parts.replay.index_works()
    parts.clock.now_s += INDEX_RETRY_S
    assert parts.replay.index_works()


def test_a_spool_that_is_full_is_told_once_a_second_however_many_come(caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts()
    for _ in range(3):
        parts.replay.spool_failed(StoreError("full"))
    assert caplog.text.count("spool_failed") == 1
    parts.clock.now_s += INDEX_RETRY_S
    parts.replay.spool_failed(StoreError("full"))
    assert caplog.text.count("spool_failed") == 2


async def test_what_nobody_foresaw_of_the_spool_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REST_S", 0.01)
    parts = Parts()
    oldest, failures = parts.spool.oldest, [OverflowError("a bug")]

    async def fail(after: int = 0) -> SpoolRecord | None:
        if failures:
            raise failures.pop()
        return await oldest(after)

    parts.spool.oldest = fail  # type: ignore[method-assign]
    await parts.spooled("1")
    async with asyncio.timeout(10):
        await parts.run_until_empty()
    assert [key[2] for key in parts.index.stored] == ["1"]
