"""Where a batch is kept: in the index, else on another way to it, else on disk, else with the dead letters.

Where there is another way, an index that is slow to answer is not waited for: the batch goes that way, too. It is one
document all the same, whichever copy arrives first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random

from gateway.errors import SpoolFullError, StoreError
from gateway.locations.batch import DeviceEvents, count
from gateway.locations.counters import Counters
from gateway.locations.narrowing import write_narrowed_async
from gateway.locations.outcome import Durability, Rejection
from gateway.locations.ports import LocationIndex, OverflowStream, Spool
from gateway.locations.replay import Replay
from gateway.locations.settlement import Part, Poison, Verdict, sort_out
from gateway.telemetry.log import Log

# A device is told within a second where its event is.
SLOW_S = 0.6
_SLOW = Rejection("the index has not answered in time", overflow=True)
_AT_ITS_LIMIT = Rejection("as many events wait for the index as may", overflow=True)

_log = Log("locations")


class Storing:
    """Decides about one batch after the other; calls may overlap. Every event gets one verdict.

    `ack_min` is the lowest durability that is acknowledged. Without a `stream` the spool takes its place.
    """

    def __init__(
        self,
        index: LocationIndex,
        stream: OverflowStream | None,
        spool: Spool,
        replay: Replay,
        counters: Counters,
        random: Random,
        ack_min: Durability,
    ) -> None:
        self._index = index
        self._stream = None if ack_min is Durability.INDEXED else stream
        self._spool = spool
        self._replay = replay
        self._counters = counters
        self._random = random
        self._may_spool = ack_min is Durability.SPOOLED
        self._writes: set[asyncio.Task[Mapping[int, Rejection]]] = set()
        self._refusal_code = "stream_unavailable" if ack_min is Durability.FIREHOSE else "index_unavailable"

    @property
    def has_stream(self) -> bool:
        """Whether there is another way than to wait for the index."""
        return self._stream is not None

    async def close(self) -> None:
        """Wait no more for answers of the index. Call it when no batch is being stored any more."""
        for task in self._writes:
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def store(self, parts: list[Part], written: Callable[[], None]) -> list[Verdict]:
        """What became of a batch. `written` is called when the index has answered, whatever it did.

        Cancelled, any of it may be stored: it is one event all the same.
        """
        groups = [group for _, group in parts]
        if self._stream is None:
            return await self._settle(parts, await self._write(groups, written))
        writing = asyncio.create_task(self._write(groups, written), name="locations-write")
        self._writes.add(writing)
        writing.add_done_callback(self._writes.discard)
        done, _ = await asyncio.wait({writing}, timeout=SLOW_S)
        if done:
            return await self._settle(parts, writing.result())
        writing.add_done_callback(_late_answer)
        return await self._settle(parts, dict.fromkeys(range(count(groups)), _SLOW))

    async def store_past_index(self, parts: list[Part]) -> list[Verdict]:
        """What became of a batch that the index is not asked to take."""
        number = count(group for _, group in parts)
        self._counters.passed += number
        return await self._settle(parts, dict.fromkeys(range(number), _AT_ITS_LIMIT))

    async def _settle(self, parts: list[Part], rejections: Mapping[int, Rejection]) -> list[Verdict]:
        """Find a place for what the index did not take."""
        if not rejections:
            return [Verdict(parts, Durability.INDEXED)]
        found = sort_out(parts, rejections)
        verdicts = [Verdict(found.stored, Durability.INDEXED)]
        verdicts += [self._refused(refused, code) for code, refused in found.refused.items()]
        later = found.later
        if found.overflow and self._stream is not None and self._index.pace.stream:
            verdicts += await self._to_stream(self._stream, found.overflow, later)
        else:
            later += found.overflow
        if later:
            verdicts += await self.to_spool(later)
        if found.poison:
            verdicts.append(await self._bury(found.poison))
        return verdicts

    async def _write(self, groups: list[DeviceEvents], written: Callable[[], None]) -> Mapping[int, Rejection]:
        """The index's answer; everything is rejected while it fails as a whole, which is tried again after a while."""
        try:
            return await self._ask(groups)
        finally:
            written()

    async def _ask(self, groups: list[DeviceEvents]) -> Mapping[int, Rejection]:
        rejections: Mapping[int, Rejection]
        everything = range(count(groups))
        if self._may_spool and not self._replay.index_works():
            rejections = dict.fromkeys(everything, Rejection("the index failed a moment ago"))
        else:
            try:
                rejections = await write_narrowed_async(groups, self._index.write)
            except StoreError as error:
                self._replay.index_failed(error)
                rejections = dict.fromkeys(everything, Rejection(str(error)))
        if rejections:
            self._counters.index_failures += 1
            self._replay.index_refused(rejections)
        return rejections

    async def _to_stream(self, stream: OverflowStream, parts: list[Part], later: list[Part]) -> list[Verdict]:
        """Hand the events to the stream; what it does not take goes to `later`."""
        try:
            rejections = await write_narrowed_async([group for _, group in parts], stream.put)
        except StoreError as error:
            rejections = dict.fromkeys(range(count(group for _, group in parts)), Rejection(str(error)))
        found = sort_out(parts, rejections)
        later += found.overflow + found.later
        if rejections:
            self._counters.stream_failures += 1
        verdicts = [Verdict(found.stored, Durability.FIREHOSE)] if found.stored else []
        if found.poison:
            verdicts.append(await self._bury(found.poison))
        return verdicts

    async def to_spool(self, parts: list[Part], refusal: str = "") -> list[Verdict]:
        """Store the events in the spool, and refuse or bury what it does not take.

        `refusal` is the code of the refusals; empty: the one that tells why.
        """
        if not self._may_spool:
            return [self._refused(parts, refusal or self._refusal_code)]
        try:
            rejections = await write_narrowed_async([group for _, group in parts], self._append)
        except StoreError as error:
            self._counters.spool_failures += 1
            self._replay.spool_failed(error)
            why = "spool_full" if isinstance(error, SpoolFullError) else "storage_failed"
            return [self._refused(parts, refusal or why)]
        self._replay.wake()
        found = sort_out(parts, rejections)
        verdicts = [Verdict(found.stored, Durability.SPOOLED)]
        if found.later:
            verdicts.append(self._refused(found.later, refusal or "storage_failed"))
        if found.poison:
            verdicts.append(await self._bury(found.poison))
        return verdicts

    async def _append(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        await self._spool.append(groups)
        return {}

    async def _bury(self, poison: list[Poison]) -> Verdict:
        dead = [(caller, group) for caller, group, _ in poison]
        if await self._replay.bury([(group, rejection) for _, group, rejection in poison]):
            return Verdict(dead, Durability.DEAD_LETTER)
        return self._refused(dead, "storage_failed")

    def _refused(self, parts: list[Part], code: str) -> Verdict:
        return Verdict(parts, code=code, retry_after_ms=self._random.randint(5000, 15_000))


def _late_answer(task: asyncio.Task[Mapping[int, Rejection]]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("index_failed", exc_info=error)
