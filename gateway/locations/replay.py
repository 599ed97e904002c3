"""Moving the spool's events into the index, oldest first, when the index works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents, items
from gateway.locations.buffer import Caller
from gateway.locations.counters import Counters
from gateway.locations.outcome import Rejection
from gateway.log import Log
from gateway.ports import Clock, DeadLetters, LocationIndex, Spool, SpoolRecord

INDEX_RETRY_S = 1.0
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
        self._index_retry_s = self._said_s = float("-inf")

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

    def wake(self) -> None:
        """Something was spooled."""
        self._spooled.set()

    async def bury(self, poison: Sequence[tuple[Caller, DeviceEvents, Rejection]]) -> bool:
        """Write dead letters; whether they are durable."""
        return await self._bury([(group, rejection) for _, group, rejection in poison])

    async def _bury(self, letters: Sequence[tuple[DeviceEvents, Rejection]]) -> bool:
        try:
            await self._dead_letters.append(letters)
        except StoreError as error:
            _log.critical("dead_letters_failed", problem=str(error))
            return False
        _log.error("dead_letters", events=len(letters), problem=letters[0][1].reason)
        return True

    async def run(self) -> None:
        """Replay for ever. Cancellation at any point loses nothing: a record is removed after its events are stored."""
        last = 0
        while True:
            try:
                record = await self._spool.oldest(last)
                if record is not None:
                    # A record that is not taken stays; the ones behind it may be for another index.
                    last = record.number
                    await self._replay(record)
                    continue
            except StoreError as error:
                _log.error("replay_failed", problem=str(error))
            last = 0
            if self._spool.events == 0:
                self._spooled.clear()
                await self._spooled.wait()
            else:
                await asyncio.sleep(INDEX_RETRY_S)

    async def _replay(self, record: SpoolRecord) -> None:
        began_s = self._clock.monotonic_s()
        try:
            rejections = await self._index.write(record.groups)
        except StoreError as error:
            self.index_failed(error)
            raise
        letters = [
            (DeviceEvents(group.account, group.device, (event,)), rejections[position])
            for position, (group, event) in enumerate(items(record.groups))
            if position in rejections and rejections[position].poison
        ]
        if len(letters) == len(rejections) and (not letters or await self._bury(letters)):
            await self._spool.remove(record.number)
            self._counters.replayed += sum(len(group.events) for group in record.groups)
        if self._busy():
            await asyncio.sleep((self._clock.monotonic_s() - began_s) * _REST_PER_WORK)
