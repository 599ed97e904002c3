"""What services need from the outside world, as small protocols. Adapters implement them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from gateway.drain.health import GroupAttributes, GroupHealth, Membership
from gateway.drain.receipt import Receipt
from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Rejection
from gateway.locations.query import Found, Query
from gateway.recording.format import Line


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for what is measured; never one for the other."""

    def time_ms(self) -> int:
        """Wall clock, ms since the Unix epoch; may jump."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""


class LocationIndex(Protocol):
    """Where location events are kept and found. Every call is scoped to one account except `write`.

    A cancelled call may still take effect; writing the same events again is harmless, because an event is one by
    (account, device, id) and the first copy wins.
    """

    async def open(self) -> None:
        """Make or check the store. Raises StoreError or SchemaError when it cannot be used."""

    async def close(self) -> None:
        """Release everything; what `write` returned for stays stored."""

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """Store all events durably, and return the ones that were not: position in the flattened batch → why.

        A duplicate is a success. When this returns, the others survive a crash and are found by every search that
        starts afterwards. Raises StoreError when nothing is known about any of them.
        """

    async def search(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """Up to `query.limit` events after `query.after`, newest first, then device, then id; and whether more exist.

        Raises StoreError.
        """

    async def track(self, account: str, query: Query) -> tuple[list[Found], bool]:
        """The same for `query.device` (required; `query.shape` is ignored), oldest first, then id."""

    async def latest(self, account: str, device: str) -> Found | None:
        """The device's event with the newest time; None when there is none. Raises StoreError."""


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


class Recording(Protocol):
    """Where arrivals are written, for a load test to play them again (gateway/recording)."""

    def put(self, line: Line) -> None:
        """Take one line, not earlier than the last. Never waits and never fails; without room for it it is dropped."""

    def now_ms(self) -> int:
        """Whole ms since the recording began."""


class StoredKeySet(NamedTuple):
    """A key set as it was answered, and when (ms since the Unix epoch)."""

    body: bytes
    fetched_ms: int


class KeySetSource(Protocol):
    """Where an issuer publishes its keys."""

    async def fetch(self) -> bytes:
        """Its JSON Web Key Set. Bounded in time and size; raises KeySetError."""


class KeySetStore(Protocol):
    """Where the last key set is kept for the next start."""

    def load(self) -> StoredKeySet | None:
        """The last one of the same address; None: there is none. Blocks. Raises StoreError."""

    def save(self, body: bytes, fetched_ms: int) -> None:
        """Keep this one instead; blocks. Raises StoreError."""


class Receipts(Protocol):
    """Where receipts of drains are kept."""

    def keep(self, receipt: Receipt) -> None:
        """Store it; blocks. Raises StoreError."""


class TargetHealth(Protocol):
    """What the load balancer and the container service say of this process.

    Every call is bounded in time and raises PollError, whose `kind` says which answer it was; cancelling is harmless.
    """

    async def membership(self) -> Membership:
        """Own target and its groups. A service may have no group yet: then `ports` is empty."""

    async def attributes(self, group: str) -> GroupAttributes:
        """The settings of a target group (ARN)."""

    async def health(self, group: str, target: str, port: int, also: Sequence[str] = ()) -> GroupHealth:
        """The state of all targets of a group, by one unfiltered call; `target` and `port` are the own one, `also` its
        other addresses."""

    async def close(self) -> None:
        """Release connections."""
