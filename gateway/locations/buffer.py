"""What was accepted and is not settled yet: bounded in events and bytes, with two marks of pressure."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct

from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Outcomes


class Limits(Struct, frozen=True):
    """How much is gathered and kept.

    Above the first mark (`pause_…`) senders of an account are asked to stop reading. Above the second (`refuse_…`, of
    all accounts together) events are refused.

    A batch of 4,000 events costs the embedded index a third less per event than one of 1,000. Batches begin at least
    `gather_s` apart unless they hold `gather_messages` or are full: each costs the index and the loop about 0.5 ms of
    processor time, whatever it holds, and at 5,000 events a second its first message waits for 24 ms. At 250 events a
    second a gateway needs a third less with 50 ms than with 20, for 16 ms more until the acknowledgement. The first
    batch after a rest is never kept.
    """

    batch_events: int = 4000
    batch_bytes: int = 8 << 20
    gather_s: float = 0.05
    gather_messages: int = 120
    pause_events: int = 10_000
    pause_bytes: int = 24 << 20
    refuse_events: int = 50_000
    refuse_bytes: int = 64 << 20


class Caller(Struct, eq=False):
    """A sender with what it waits for. `outcomes` is where it is told of them; None: it is gone."""

    outcomes: Outcomes | None
    sender: Any
    account: str
    submissions: int = 0
    paused: bool = False


class Submission(Struct, eq=False, gc=False):
    """The events of one message: one object a message, not one an event."""

    caller: Caller
    group: DeviceEvents
    size_bytes: int


class _Held:
    """What one account has in the buffer: all of it, and what waits to be taken."""

    __slots__ = ("events", "size_bytes", "waiting")

    def __init__(self) -> None:
        self.events = 0
        self.size_bytes = 0
        self.waiting: deque[Submission] = deque()


class Buffer:
    """Queues of submissions, one an account, taken in turns: an account that sends much waits only for itself.

    `events` and `size_bytes` count those taken too, until they are settled. An account may hold twice what is free for
    all, so two thirds when it is alone: there is always room for another one. `enough`: what waits is worth a batch at
    once.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._accounts: dict[str, _Held] = {}
        self._turns: deque[_Held] = deque()
        self._waiting_events = 0
        self._waiting_messages = 0
        self._all_events = (limits.pause_events + limits.refuse_events) // 2
        self.events = 0
        self.size_bytes = 0
        self.enough = False

    def __bool__(self) -> bool:
        """Whether anything waits to be taken."""
        return bool(self._turns)

    def offer(self, submission: Submission) -> bool:
        """Append one if with it its account, and all together, stay below the second mark; whether they do."""
        group, size_bytes = submission.group, submission.size_bytes
        number, limits = len(group.events), self._limits
        free_events, free_bytes = limits.refuse_events - self.events, limits.refuse_bytes - self.size_bytes
        if number > free_events or size_bytes > free_bytes:
            return False
        held = self._accounts.get(group.account)
        if held is None:
            held = self._accounts[group.account] = _Held()
        elif held.events + number > 2 * free_events or held.size_bytes + size_bytes > 2 * free_bytes:
            return False
        if not held.waiting:
            self._turns.append(held)
        held.waiting.append(submission)
        held.events += number
        held.size_bytes += size_bytes
        self._waiting_events += number
        self._waiting_messages += 1
        self.events += number
        self.size_bytes += size_bytes
        self._look_whether_enough()
        return True

    def presses(self, account: str) -> bool:
        """Whether the account is above the first mark, or all together are half way from it to the second."""
        limits = self._limits
        if self.events <= limits.pause_events and self.size_bytes <= limits.pause_bytes:
            return False
        held = self._accounts.get(account)
        if held is not None and (held.events > limits.pause_events or held.size_bytes > limits.pause_bytes):
            return True
        return self.events > self._all_events or self.size_bytes > (limits.pause_bytes + limits.refuse_bytes) // 2

    def _look_whether_enough(self) -> None:
        limits = self._limits
        self.enough = self._waiting_messages >= limits.gather_messages or self._waiting_events >= limits.batch_events

    @property
    def waiting_events(self) -> int:
        """How many events wait to be taken."""
        return self._waiting_events

    def take(self, max_events: int) -> list[Submission]:
        """As many submissions as a batch may hold, one of each account in turn; at least one unless nothing waits."""
        limits, turns = self._limits, self._turns
        max_events = min(max_events, limits.batch_events)
        taken: list[Submission] = []
        events = size_bytes = 0
        while turns:
            waiting = turns[0].waiting
            submission = waiting[0]
            more = len(submission.group.events)
            if taken and (events + more > max_events or size_bytes + submission.size_bytes > limits.batch_bytes):
                break
            events += more
            size_bytes += submission.size_bytes
            taken.append(submission)
            waiting.popleft()
            if not waiting:
                turns.popleft()
            elif len(turns) > 1:
                turns.rotate(-1)
        self._waiting_events -= events
        self._waiting_messages -= len(taken)
        self._look_whether_enough()
        return taken

    def take_all(self) -> list[Submission]:
        """Everything that waits."""
        taken: list[Submission] = []
        for held in self._turns:
            taken += held.waiting
            held.waiting.clear()
        self._turns.clear()
        self._waiting_events = self._waiting_messages = 0
        self.enough = False
        return taken

    def settled(self, submissions: list[Submission]) -> int:
        """These are settled: they do not count. How many events they hold."""
        before = self.events
        for submission in submissions:
            number, account = len(submission.group.events), submission.group.account
            held = self._accounts[account]
            held.events -= number
            held.size_bytes -= submission.size_bytes
            self.events -= number
            self.size_bytes -= submission.size_bytes
            if not held.events:
                del self._accounts[account]
        return before - self.events

    def room_for(self, account: str, typical_events: int) -> int:
        """How many submissions of that size fit below half of the marks; at least one when nothing is kept."""
        held = self._accounts.get(account)
        own = self._limits.pause_events // 2 - (held.events if held is not None else 0)
        room = min(own, self._all_events // 2 - self.events) // max(1, typical_events)
        return max(room, 0 if self.events else 1)
