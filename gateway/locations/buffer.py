"""What was accepted and is not settled yet: bounded in events and bytes, with two marks of pressure."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Pressure, Sender


class Limits(Struct, frozen=True):
    """How much is gathered and kept.

    Above the first mark (`pause_…`) senders are asked to stop reading, above the second (`refuse_…`) they are refused.
    A batch of 4,000 events costs the embedded index a third less per event than one of 1,000. Batches begin at least
    `gather_s` apart unless they are full: each commit costs about 1 ms of processor time, whatever it holds, and writes
    every page it touches. At 250 events a second a gateway needs a third less with 50 ms than with 20, for 16 ms more
    until the acknowledgement. The first one after a rest is never kept.
    """

    batch_events: int = 4000
    batch_bytes: int = 5 << 20
    gather_s: float = 0.05
    pause_events: int = 10_000
    pause_bytes: int = 16 << 20
    refuse_events: int = 50_000
    refuse_bytes: int = 64 << 20


class Caller:
    """A sender with what it waits for. `sender` becomes None when it is gone."""

    __slots__ = ("paused", "sender", "submissions")

    def __init__(self, sender: Sender) -> None:
        self.sender: Sender | None = sender
        self.submissions = 0
        self.paused = False


class Submission:
    """The events of one message: one object a message, not one an event."""

    __slots__ = ("caller", "group", "size_bytes")

    def __init__(self, caller: Caller, group: DeviceEvents, size_bytes: int) -> None:
        self.caller = caller
        self.group = group
        self.size_bytes = size_bytes


class Buffer:
    """A queue of submissions. `events` and `size_bytes` count those taken too, until they are settled."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[Submission] = deque()
        self._waiting_events = 0
        self.events = 0
        self.size_bytes = 0

    def __bool__(self) -> bool:
        """Whether anything waits to be taken."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return self._waiting_events >= self._limits.batch_events

    def fits(self, events: int, size_bytes: int) -> bool:
        """Whether that much more stays below the second mark."""
        limits = self._limits
        return self.events + events <= limits.refuse_events and self.size_bytes + size_bytes <= limits.refuse_bytes

    def pressure(self) -> Pressure:
        """PAUSE above the first mark."""
        limits = self._limits
        if self.events > limits.pause_events or self.size_bytes > limits.pause_bytes:
            return Pressure.PAUSE
        return Pressure.GO

    def add(self, submission: Submission) -> None:
        """Append one."""
        number = len(submission.group.events)
        self._waiting.append(submission)
        self._waiting_events += number
        self.events += number
        self.size_bytes += submission.size_bytes

    def take(self) -> list[Submission]:
        """The oldest submissions, as many as a batch may hold; at least one unless nothing waits."""
        limits, waiting = self._limits, self._waiting
        taken: list[Submission] = []
        events = size_bytes = 0
        while waiting:
            events += len(waiting[0].group.events)
            size_bytes += waiting[0].size_bytes
            if taken and (events > limits.batch_events or size_bytes > limits.batch_bytes):
                break
            taken.append(waiting.popleft())
            self._waiting_events -= len(taken[-1].group.events)
        return taken

    def take_all(self) -> list[Submission]:
        """Everything that waits."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._waiting_events = 0
        return taken

    def settled(self, submissions: list[Submission]) -> None:
        """These are done with: they no longer count."""
        for submission in submissions:
            self.events -= len(submission.group.events)
            self.size_bytes -= submission.size_bytes

    def room_for(self, typical_events: int) -> int:
        """How many submissions of that size fit below half of the first mark; at least one when nothing is kept."""
        room = (self._limits.pause_events // 2 - self.events) // max(1, typical_events)
        return max(room, 0 if self.events else 1)
