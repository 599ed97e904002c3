"""The pipeline with an index, a spool and dead letters that fail at random: nothing is lost, nothing made up."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents, count, items
from gateway.locations.buffer import Limits
from gateway.locations.outcome import Durability, Rejection
from gateway.locations.pipeline import LocationPipeline
from gateway.locations.ports import Pace
from tests.support.locations import (
    ManualClock,
    MemoryDeadLetters,
    MemoryIndex,
    MemorySpool,
    MemoryStream,
    RecordingSender,
    event,
)

LIMITS = Limits(gather_s=0.0, batch_events=5, pause_events=8, refuse_events=20)


class FlakyIndex(MemoryIndex):
    """Fails as a whole or by item, sometimes after it stored everything."""

    def __init__(self, random: Random, fails: float) -> None:
        super().__init__()
        self.random = random
        self.fails = fails

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        for _ in range(self.random.randint(0, 3)):
            await asyncio.sleep(0)
        if self.random.random() < self.fails:
            kind = self.random.random()
            if kind < 0.3:
                await super().write(groups)  # a ghost write: stored, but the answer is lost
                raise StoreError("no answer")
            if kind < 0.5:
                raise StoreError("gone")
            poison = self.random.random() < 0.3
            rejection = Rejection("no", poison, overflow=not poison and self.random.random() < 0.5)
            return await self._write_some(groups, self.random.randint(1, count(groups)), rejection)
        return await super().write(groups)

    async def _write_some(
        self, groups: Sequence[DeviceEvents], number: int, rejection: Rejection
    ) -> Mapping[int, Rejection]:
        """All but so many."""
        rejections = dict.fromkeys(self.random.sample(range(count(groups)), number), rejection)
        for position, (group, one) in enumerate(items(groups)):
            if position not in rejections:
                await super().write([DeviceEvents(group.account, group.device, (one,))])
        return rejections


class FlakyStream(MemoryStream):
    """Takes all, some or none."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random

    async def put(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        number = self.random.choice([0, 0, 1, count(groups)])
        rejections = dict.fromkeys(self.random.sample(range(count(groups)), number), Rejection("full"))
        await asyncio.sleep(0)
        for position, (group, one) in enumerate(items(groups)):
            if position not in rejections:
                self.taken.setdefault((group.account, group.device, one.id), one)
        return rejections


class FlakySpool(MemorySpool):
    """Fails at random, and is small."""

    def __init__(self, random: Random, fails: float) -> None:
        super().__init__(max_events=30)
        self.random = random
        self.failure_rate = fails

    async def append(self, groups: Sequence[DeviceEvents]) -> None:
        self.fails = self.random.random() < self.failure_rate
        await super().append(groups)


async def scenario(seed: int, index_fails: float, spool_fails: float, ack_min: Durability, abrupt: bool) -> None:
    random, clock = Random(seed), ManualClock()
    index, spool, letters = FlakyIndex(random, index_fails), FlakySpool(random, spool_fails), MemoryDeadLetters()
    index.pace = Pace(random.randint(1, 4), random.randint(1, 20), random.randint(1, 20))
    stream = FlakyStream(random) if random.random() < 0.5 else None
    pipeline = LocationPipeline(index, spool, letters, clock, random, stream=stream, ack_min=ack_min, limits=LIMITS)
    await pipeline.start()
    senders = [RecordingSender() for _ in range(5)]
    sent: list[set[str]] = [set() for _ in senders]
    gone: set[int] = set()

    def check() -> None:
        assert pipeline.conservation() == 0

    paused = 0
    for step in range(40):
        number = random.randrange(len(senders))
        sender = senders[number]
        sender.check = check
        names = [f"{step}-{k}" for k in range(random.randint(1, 4))]
        if number not in gone:
            sent[number].update(names)
            paused += sender.submit_to(pipeline, "a", f"d{number}", [event(name) for name in names])
        if random.random() < 0.03:
            pipeline.forget(sender)
            gone.add(number)
        clock.now_s += random.random()
        for _ in range(random.randint(0, 8)):
            await asyncio.sleep(0)
        check()
    await pipeline.stop(0.0 if abrupt else 10.0)
    check()
    assert not pipeline.failed.done()
    await check_told(senders, sent, gone, index, spool, letters, stream)


async def check_told(
    senders: list[RecordingSender],
    sent: list[set[str]],
    gone: set[int],
    index: MemoryIndex,
    spool: MemorySpool,
    letters: MemoryDeadLetters,
    stream: MemoryStream | None,
) -> None:
    spooled = {(group.device, one.id) for groups in spool.records.values() for group in groups for one in group.events}
    buried = {(group.device, one.id) for group, _ in letters.letters for one in group.events}
    for number, sender in enumerate(senders):
        told = [name for name, _ in sender.acknowledged] + [name for name, _, _ in sender.refused]
        assert len(told) == len(set(told)), "each event is decided once"
        if number in gone:
            assert set(told) <= sent[number]
        else:
            assert set(told) == sent[number]
        for name, durability in sender.acknowledged:
            key = (f"d{number}", name)
            stored = ("a", *key) in index.stored
            if durability is Durability.INDEXED:
                assert stored
            elif durability is Durability.DEAD_LETTER:
                assert key in buried
            elif durability is Durability.FIREHOSE:
                assert stream is not None
                assert ("a", *key) in stream.taken
            else:
                assert stored or key in spooled or key in buried


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([Durability.SPOOLED, Durability.FIREHOSE, Durability.INDEXED]),
    st.booleans(),
)
def test_every_event_is_decided_once_and_what_was_acknowledged_is_there(
    seed: int, index_fails: float, spool_fails: float, ack_min: Durability, abrupt: bool
) -> None:
    asyncio.run(scenario(seed, index_fails, spool_fails, ack_min, abrupt))
