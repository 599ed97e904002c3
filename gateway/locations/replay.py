"""Moving the spool's events into the index, oldest first, when the index works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents, count, items
from gateway.locations.counters import Counters
from gateway.locations.narrowing import write_narrowed_async
from gateway.locations.outcome import Rejection
from gateway.locations.ports import DeadLetters, LocationIndex, Spool, SpoolRecord
from gateway.telemetry.log import Log

INDEX_RETRY_S = 1.0
# How long the spool rests after a round that moved nothing: twice as long each time, up to this.
MAX_REST_S = 16.0
# While live events wait, replay takes a quarter of the index's time.
_REST_PER_WORK = 3.0

_log = Log("locations")


class Replay:
    """Knows whether the index works, and replays the spool. Its loop is run by the pipeline, as a task."""

    def __init__(
        self,
        index: LocationIndex,
        spool: Spool,
        dead_letters: DeadLetters,
        clock: Clock,
        busy: Callable[[], bool],
        counters: Counters,
    ) -> None:
        """`busy` says whether live events wait."""
        self._index = index
        self._spool = spool
        self._dead_letters = dead_letters
        self._clock = clock
        self._busy = busy
        self._counters = counters
        self._spooled = asyncio.Event()
        self._index_retry_s = self._said_s = self._spool_said_s = float("-inf")

    def index_works(self) -> bool:
        """False for a second after the index failed as a whole."""
        return self._clock.monotonic_s() >= self._index_retry_s

    def index_failed(self, error: StoreError) -> None:
        """The index failed as a whole: leave it alone for a while."""
        if self.index_works():
            self._index_retry_s = self._clock.monotonic_s() + INDEX_RETRY_S
            _log.error("index_failed", problem=str(error))

    def index_refused(self, rejections: Mapping[int, Rejection]) -> None:
        """The index did not take some events: say so, once a second at most."""
        now_s = self._clock.monotonic_s()
        if now_s - self._said_s >= INDEX_RETRY_S:
            self._said_s = now_s
            reason = next(iter(rejections.values())).reason
            _log.error("index_refused", events=len(rejections), problem=reason)

    def spool_failed(self, error: StoreError) -> None:
        """The spool did not take some events: say so, once a second at most."""
        now_s = self._clock.monotonic_s()
        if now_s - self._spool_said_s >= INDEX_RETRY_S:
            self._spool_said_s = now_s
            _log.critical("spool_failed", problem=str(error))

    def wake(self) -> None:
        """Something was spooled."""
        self._spooled.set()

    async def bury(self, letters: Sequence[tuple[DeviceEvents, Rejection]]) -> bool:
        """Write dead letters; whether they are durable."""
        try:
            await self._dead_letters.append(letters)
        except Exception as error:
            _log.critical("dead_letters_failed", problem=str(error))
            return False
        _log.error("dead_letters", events=len(letters), problem=letters[0][1].reason)
        return True

    async def run(self) -> None:
        """Replay for ever. Cancellation at any point loses nothing: a record is removed after its events are stored."""
        rest_s = INDEX_RETRY_S
        while True:
            try:
                moved = await self._round()
                rest_s = INDEX_RETRY_S if moved else min(2 * rest_s, MAX_REST_S)
            except StoreError as error:
                rest_s = INDEX_RETRY_S
                _log.error("replay_failed", problem=str(error))
            except Exception as error:
                # What came since must not end with what lies there.
                rest_s = MAX_REST_S
                _log.error("replay_failed", exc_info=error, problem=repr(error))
            if self._spool.events == 0:
                self._spooled.clear()
                await self._spooled.wait()
            else:
                await asyncio.sleep(rest_s)

    async def _round(self) -> int:
        """Try every record once; how many events left the spool. Raises StoreError when a store fails as a whole."""
        moved = last = 0
        while (record := await self._spool.oldest(last)) is not None:
            # A record that is not taken stays; the ones behind it may be for another index.
            last = record.number
            began_s = self._clock.monotonic_s()
            try:
                moved += await self._replay(record)
            except StoreError:
                raise
            except Exception as error:
                # It would raise again at each turn and after each restart.
                _log.error("record_set_aside", exc_info=error, number=record.number, events=count(record.groups))
                await self._spool.set_aside(record.number)
            if self._busy():
                await asyncio.sleep((self._clock.monotonic_s() - began_s) * _REST_PER_WORK)
        return moved

    async def _replay(self, record: SpoolRecord) -> int:
        """Store what the index takes, bury poison and keep the rest in the spool; how many events left it."""
        try:
            rejections = await write_narrowed_async(record.groups, self._index.write)
        except StoreError as error:
            self.index_failed(error)
            raise
        letters, kept = _left(record.groups, rejections)
        if letters and not await self.bury(letters):
            kept = _members(record.groups, rejections)
        moved = count(record.groups) - count(kept)
        if not kept:
            await self._spool.remove(record.number)
        elif moved:
            await self._spool.keep(record.number, kept)
        self._counters.replayed += moved
        return moved


def _left(
    groups: Sequence[DeviceEvents], rejections: Mapping[int, Rejection]
) -> tuple[list[tuple[DeviceEvents, Rejection]], list[DeviceEvents]]:
    """What the index never takes, with the reason, and what it may take later."""
    poison = {position: rejection for position, rejection in rejections.items() if rejection.poison}
    letters = list(zip(_members(groups, poison), (poison[position] for position in sorted(poison)), strict=True))
    return letters, _members(groups, rejections.keys() - poison.keys())


def _members(groups: Sequence[DeviceEvents], positions: Container[int]) -> list[DeviceEvents]:
    """The events at these positions of the flattened groups, each a group of its own."""
    return [
        DeviceEvents(group.account, group.device, (event,))
        for position, (group, event) in enumerate(items(groups))
        if position in positions
    ]
