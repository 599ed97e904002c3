"""An index that is slow, or does not answer: where there is another way, no device waits for it. Time is virtual."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.locations.batch import DeviceEvents
from gateway.locations.buffer import Limits
from gateway.locations.outcome import Durability, Rejection
from gateway.locations.pipeline import PATIENCE_S
from gateway.locations.ports import Pace
from gateway.locations.storing import SLOW_S
from tests.support.locations import MemoryStream
from tests.support.pipelines import Parts
from tests.support.virtual_time import LoopClock, run


def unexpected(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
    raise KeyError("unexpected")


class Slow(Parts):
    """An index that takes its time for each call, one at a time, with a stream beside it."""

    def __init__(self, took_s: float) -> None:
        super().__init__()
        self.clock = LoopClock()  # type: ignore[assignment]
        self.stream = MemoryStream()
        self.make(limits=Limits(batch_events=10, gather_s=0))
        self.took_s = took_s
        write = self.index.write

        async def slowly(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
            await asyncio.sleep(self.took_s)
            return await write(groups)

        self.index.write = slowly  # type: ignore[method-assign]

    def durability(self) -> dict[str, Durability]:
        return dict(self.sender.acknowledged)


def test_what_waits_for_a_place_longer_than_may_be_goes_the_other_way() -> None:
    async def scenario() -> None:
        parts = Slow(took_s=0.5)
        await parts.pipeline.start()
        parts.submit("first")
        await asyncio.sleep(0.01)
        parts.submit("second")
        await asyncio.sleep(PATIENCE_S - 0.02)
        assert parts.durability() == {}
        await asyncio.sleep(0.04)
        assert parts.durability() == {"second": Durability.FIREHOSE}
        await asyncio.sleep(0.5)
        assert parts.durability()["first"] is Durability.INDEXED
        await parts.pipeline.stop(1)

    run(scenario())


def test_more_than_may_wait_does_not_wait_at_all() -> None:
    async def scenario() -> None:
        parts = Slow(took_s=0.2)
        parts.index.pace = Pace(1, 2, 3)
        await parts.pipeline.start()
        parts.submit("first")
        await asyncio.sleep(0.01)
        for number in range(12):
            parts.submit(f"e{number}")
        await asyncio.sleep(0.01)
        # The oldest go, a batch at a time, until few enough wait; those have a place by the end of the next call.
        assert parts.durability() == {f"e{number}": Durability.FIREHOSE for number in range(10)}
        await asyncio.sleep(0.4)
        assert [parts.durability()[name] for name in ("first", "e10", "e11")] == 3 * [Durability.INDEXED]
        await parts.pipeline.stop(1)

    run(scenario())


@pytest.mark.parametrize("raises", [False, True])
def test_an_answer_that_does_not_come_in_time_is_not_waited_for_and_counts_once(raises: bool) -> None:
    async def scenario() -> None:
        parts = Slow(took_s=5.0)
        if raises:
            parts.index.answer = unexpected
        await parts.pipeline.start()
        parts.submit("one", "two")
        await asyncio.sleep(SLOW_S + 0.01)
        assert parts.durability() == dict.fromkeys(("one", "two"), Durability.FIREHOSE)
        # One that raises is asked for each event alone.
        await asyncio.sleep(15)
        assert len(parts.sender.acknowledged) == 2
        assert parts.pipeline.conservation() == 0
        assert not parts.pipeline.failed.done()
        # Its place is free again.
        parts.took_s, parts.index.answer = 0.0, None
        parts.submit("three")
        await asyncio.sleep(0.01)
        assert parts.durability()["three"] is Durability.INDEXED
        await parts.pipeline.stop(1)

    run(scenario())


def test_without_another_way_the_index_is_waited_for() -> None:
    async def scenario() -> None:
        parts = Slow(took_s=5.0)
        parts.stream = None
        parts.make(limits=Limits(batch_events=10, gather_s=0))
        parts.index.pace = Pace(1, 2, 3)
        await parts.pipeline.start()
        for number in range(6):
            parts.submit(f"e{number}")
        await asyncio.sleep(20)
        assert set(parts.durability().values()) == {Durability.INDEXED}
        assert len(parts.durability()) == 6
        await parts.pipeline.stop(1)

    run(scenario())


def test_stop_leaves_no_call_of_a_silent_index_behind() -> None:
    async def scenario() -> None:
        parts = Slow(took_s=1e6)
        await parts.pipeline.start()
        parts.submit("one")
        await asyncio.sleep(SLOW_S + 0.01)
        await parts.pipeline.stop(1)
        others = {task.get_name() for task in asyncio.all_tasks()} - {asyncio.current_task().get_name()}  # type: ignore[union-attr]
        assert not others
        assert parts.durability() == {"one": Durability.FIREHOSE}

    run(scenario())


def test_what_may_not_go_by_the_stream_is_spooled_however_slow_the_index_is() -> None:
    async def scenario() -> None:
        parts = Slow(took_s=10 * SLOW_S)
        parts.index.pace = Pace(1, 10, 10, stream=False)
        await parts.pipeline.start()
        parts.submit("asked")
        await asyncio.sleep(0.01)
        parts.submit("passed")
        await asyncio.sleep(SLOW_S + PATIENCE_S)
        assert parts.durability() == {"asked": Durability.SPOOLED, "passed": Durability.SPOOLED}
        await parts.pipeline.stop(1)

    run(scenario())
