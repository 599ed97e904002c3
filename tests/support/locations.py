"""Location ports in memory, which fail on demand, and a sender that remembers what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import asdict

from gateway.errors import SpoolFullError, StoreError
from gateway.locations.batch import DeviceEvents, count, items
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Refusal, Rejection
from gateway.locations.pipeline import LocationPipeline
from gateway.locations.ports import Pace, SpoolRecord
from gateway.locations.query import Found, Query

NOON_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 43_200_000
DAY_MS = 86_400_000


class Changes:
    """Lets a test wait for a condition without polling: whoever changes something says so."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        self._changed.set()

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class ManualClock:
    """A clock that moves when told."""

    def __init__(self, time_ms: int = NOON_MS) -> None:
        self.now_ms = time_ms
        self.now_s = 0.0

    def time_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_s


def event(name: str = "e1", time: int = NOON_MS, lat: float = 0.0, lon: float = 0.0, **more: object) -> LocationEvent:
    return LocationEvent(name, time, lat, lon, **more)  # type: ignore[arg-type]


def found(device: str, stored: LocationEvent) -> Found:
    return Found(device=device, **asdict(stored))


class MemoryIndex:
    """The LocationIndex port by brute force: the oracle that other adapters are compared with.

    `answer`, when set, decides about a batch first: it returns rejections or raises.
    """

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str, str], LocationEvent] = {}
        self.batches: list[int] = []
        self.answer: Callable[[Sequence[DeviceEvents]], Mapping[int, Rejection]] | None = None
        self.gate: asyncio.Event | None = None
        self.changes = Changes()
        self.pace = Pace(1, 1 << 30, 1 << 30)
        self.most_at_once = self._writing = 0

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        self._writing += 1
        self.most_at_once = max(self.most_at_once, self._writing)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self._writing -= 1
        rejections = self.answer(groups) if self.answer is not None else {}
        self.batches.append(count(groups))
        for position, (group, one) in enumerate(items(groups)):
            if position not in rejections:
                self.stored.setdefault((group.account, group.device, one.id), one)
        self.changes.tell()
        return rejections

    def _matching(self, account: str, query: Query) -> list[Found]:
        return [
            found(device, one)
            for (owner, device, _), one in self.stored.items()
            if owner == account
            and (query.device is None or device == query.device)
            and (query.from_ms is None or one.time >= query.from_ms)
            and (query.to_ms is None or one.time < query.to_ms)
            and (query.shape is None or query.shape.contains(one.lat, one.lon))
        ]

    async def search(self, account: str, query: Query) -> tuple[list[Found], bool]:
        return self._page(account, query, -1)

    async def track(self, account: str, query: Query) -> tuple[list[Found], bool]:
        return self._page(account, Query(**{**asdict(query), "shape": None}), 1)

    def _page(self, account: str, query: Query, sign: int) -> tuple[list[Found], bool]:
        def key(one: Found) -> tuple[int, str, str]:
            return (sign * one.time, one.device, one.id)

        hits = sorted(self._matching(account, query), key=key)
        if (after := query.after) is not None:
            hits = [one for one in hits if key(one) > (sign * after.time, after.device, after.id)]
        return hits[: query.limit], len(hits) > query.limit

    async def latest(self, account: str, device: str) -> Found | None:
        hits, _ = await self.search(account, Query(device=device, limit=1))
        return hits[0] if hits else None


class MemoryStream:
    """The OverflowStream port in memory; `answer`, when set, decides about a batch first."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str, str], LocationEvent] = {}
        self.answer: Callable[[Sequence[DeviceEvents]], Mapping[int, Rejection]] | None = None

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def put(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        await asyncio.sleep(0)
        rejections = self.answer(groups) if self.answer is not None else {}
        for position, (group, one) in enumerate(items(groups)):
            if position not in rejections:
                self.taken.setdefault((group.account, group.device, one.id), one)
        return rejections


class MemorySpool:
    """The Spool port in memory. `fails` makes every append fail; `max_events` makes it full."""

    def __init__(self, max_events: int = 1 << 30) -> None:
        self.records: dict[int, Sequence[DeviceEvents]] = {}
        self.aside: list[Sequence[DeviceEvents]] = []
        self.max_events = max_events
        self.fails = False
        self._last = 0
        self.changes = Changes()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def append(self, groups: Sequence[DeviceEvents]) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise StoreError("the disk is gone")
        if self.events + count(groups) > self.max_events:
            raise SpoolFullError("full")
        self._last += 1
        self.records[self._last] = groups

    async def oldest(self, after: int = 0) -> SpoolRecord | None:
        number = min((number for number in self.records if number > after), default=None)
        return None if number is None else SpoolRecord(number, self.records[number])

    async def keep(self, number: int, groups: Sequence[DeviceEvents]) -> None:
        self.records[number] = groups
        self.changes.tell()

    async def remove(self, number: int) -> None:
        self.records.pop(number, None)
        self.changes.tell()

    async def set_aside(self, number: int) -> None:
        self.aside.append(self.records.pop(number))
        self.changes.tell()

    @property
    def events(self) -> int:
        return sum(count(groups) for groups in self.records.values())

    @property
    def size_bytes(self) -> int:
        return self.events


class MemoryDeadLetters:
    """The DeadLetters port in memory."""

    def __init__(self) -> None:
        self.letters: list[tuple[DeviceEvents, Rejection]] = []
        self.fails = False

    async def append(self, letters: Sequence[tuple[DeviceEvents, Rejection]]) -> None:
        if self.fails:
            raise StoreError("the disk is gone")
        self.letters.extend(letters)


class RecordingSender:
    """Remembers what it was told; `wait_for` waits until so many events were decided."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[str, Durability]] = []
        self.acknowledgements = 0
        self.refused: list[tuple[str, str, int | None]] = []
        self.resumed = 0
        self.check: Callable[[], None] = lambda: None
        self._told = Changes()

    def submit_to(self, pipeline: LocationPipeline, account: str, device: str, events: Sequence[LocationEvent]) -> bool:
        """Submit as this sender; whether it is to pause."""
        submitted = pipeline.submit(self, self, account, device, events)
        if submitted.refusal is not None:
            self.refuse(self, [one.id for one in events], submitted.refusal)
        return submitted.pause

    def acknowledge(self, sender: object, events: Sequence[LocationEvent], durability: Durability) -> None:
        self.acknowledgements += 1
        self.acknowledged += [(one.id, durability) for one in events]
        self._told.tell()
        self.check()

    def refuse(self, sender: object, ids: Sequence[str], refusal: Refusal) -> None:
        assert refusal.message
        self.refused += [(name, refusal.code, refusal.retry_after_ms) for name in ids]
        self._told.tell()
        self.check()

    def resume(self, sender: object) -> None:
        self.resumed += 1
        self._told.tell()
        self.check()

    @property
    def decided(self) -> int:
        return len(self.acknowledged) + len(self.refused)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        await self._told.wait_for(condition)
