"""A pipeline with its parts in memory."""

from collections.abc import Mapping, Sequence
from random import Random

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.buffer import Limits
from gateway.locations.outcome import Durability, Rejection
from gateway.locations.pipeline import LocationPipeline
from tests.support.locations import (
    ManualClock,
    MemoryDeadLetters,
    MemoryIndex,
    MemorySpool,
    MemoryStream,
    RecordingSender,
    event,
)


class Stores:
    """What a pipeline needs, in memory."""

    def __init__(self) -> None:
        self.index, self.spool, self.letters, self.clock = (
            MemoryIndex(),
            MemorySpool(),
            MemoryDeadLetters(),
            ManualClock(),
        )


class Parts(Stores):
    """A pipeline with its parts in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stream: MemoryStream | None = None
        self.sender = RecordingSender()
        self.pipeline = self.make()

    def make(self, ack_min: Durability = Durability.SPOOLED, limits: Limits | None = None) -> LocationPipeline:
        self.pipeline = LocationPipeline(
            self.index,
            self.spool,
            self.letters,
            self.clock,
            Random(1),
            stream=self.stream,
            ack_min=ack_min,
            limits=limits,
        )
        self.sender.check = self.check
        return self.pipeline

    def check(self) -> None:
        assert self.pipeline.conservation() == 0

    def submit(self, *names: str, sender: RecordingSender | None = None, device: str = "d") -> bool:
        """Whether the sender is to pause."""
        pauses = (sender or self.sender).submit_to(self.pipeline, "a", device, [event(name) for name in names])
        self.check()
        return pauses

    async def told(self, number: int) -> None:
        await self.sender.wait_for(lambda: self.sender.decided >= number)


def fail(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
    raise StoreError("the index is gone")
