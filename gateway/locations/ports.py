"""What the part needs from outside: where events are kept, queued and set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Rejection
from gateway.locations.query import Found, Query


class Pace(NamedTuple):
    """How fast an index takes events now: calls of `write` at once, events in each (both at least 1).

    `waiting` is how many events may wait for a place; more of them would wait too long. `stream`: whether what it does
    not take may go by the stream, which ends in the same index.
    """

    calls: int
    events: int
    waiting: int
    stream: bool = True


class LocationIndex(Protocol):
    """Where location events are kept and found. Every call is scoped to one account except `write`.

    A cancelled call may still take effect; writing the same events again is harmless, because an event is one by
    (account, device, id) and the first copy wins.
    """

    @property
    def pace(self) -> Pace:
        """What it takes now."""

    async def open(self) -> None:
        """Make or check the store. Raises StoreError or SchemaError when it cannot be used."""

    async def close(self) -> None:
        """Release everything; what `write` returned for stays stored."""

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """Store all events durably, and return the ones that were not: position in the flattened batch → why.

        A duplicate is a success. When this returns, the others survive a crash and are found by every search of this
        process that starts afterwards. Raises StoreError when nothing is known about any of them.
        """

    async def search(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """Up to `query.limit` events after `query.after`, newest first, then device, then id; and whether more exist.

        Raises StoreError.
        """

    async def track(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """The same for `query.device` (required; `query.shape` is ignored), oldest first, then id."""

    async def latest(self, account: str, device: str) -> Found | None:
        """The device's event with the newest time; None when there is none. Raises StoreError."""


class OverflowStream(Protocol):
    """Another way to the index, slower and for another price: what the index is too busy for goes here."""

    async def open(self) -> None:
        """Begin; nothing is asked of the other side."""

    async def close(self) -> None:
        """Release everything; what was taken is on its way."""

    async def put(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """Hand all events over, and return the ones that were not taken, as `LocationIndex.write` does.

        Bounded in time. Cancelled, it may have taken any of them; they are one document all the same.
        """


class SpoolRecord(NamedTuple):
    """What one `append` call stored, under a number that grows with time."""

    number: int
    groups: Sequence[DeviceEvents]


class Spool(Protocol):
    """A durable queue on disk for what the index does not take, replayed oldest first."""

    async def open(self) -> None:
        """Make or check the store, and salvage what is readable of a damaged one. Raises StoreError or SchemaError."""

    async def close(self) -> None:
        """Release everything; the records stay."""

    async def append(self, groups: Sequence[DeviceEvents]) -> None:
        """Store all or nothing as one record, durable on return. Raises SpoolFullError or StoreError.

        A cancelled call may still take effect.
        """

    async def oldest(self, after: int = 0) -> SpoolRecord | None:
        """The record with the lowest number above `after`; None when there is none. Raises StoreError."""

    async def keep(self, number: int, groups: Sequence[DeviceEvents]) -> None:
        """Let a record hold `groups` only. Raises StoreError."""

    async def remove(self, number: int) -> None:
        """Forget one record. Raises StoreError."""

    async def set_aside(self, number: int) -> None:
        """Take a record out of the queue, but keep what it holds for a person to look at. Raises StoreError."""

    @property
    def events(self) -> int:
        """How many events it holds."""

    @property
    def size_bytes(self) -> int:
        """How many bytes the records take."""


class DeadLetters(Protocol):
    """Where events go that no index will ever take, so that a person can look at them."""

    async def append(self, letters: Sequence[tuple[DeviceEvents, Rejection]]) -> None:
        """Store all; durable on return. Raises StoreError."""
