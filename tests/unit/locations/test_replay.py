import asyncio

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.counters import Counters
from gateway.locations.outcome import Rejection
from gateway.locations.replay import INDEX_RETRY_S, Replay
from tests.support.locations import ManualClock, MemoryDeadLetters, MemoryIndex, MemorySpool, event


class Parts:
    def __init__(self) -> None:
        self.index, self.spool, self.letters, self.clock = (
            MemoryIndex(),
            MemorySpool(),
            MemoryDeadLetters(),
            ManualClock(),
        )
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


def test_after_a_failure_the_index_rests() -> None:
    parts = Parts()
    assert parts.replay.index_works()
    parts.replay.index_failed(StoreError("gone"))
    assert not parts.replay.index_works()
    parts.clock.now_s += INDEX_RETRY_S
    assert parts.replay.index_works()
