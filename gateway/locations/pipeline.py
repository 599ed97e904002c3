"""Location ingest: events come in by message, leave in batches, and are acknowledged once they are durable.

    submit → buffer → index ─ stored ────────────────► acknowledge(indexed)
               │        ├─ too busy → stream, if any ► acknowledge(firehose)
               └─ would wait too long → stream, if any
                        ├─ not taken → spool ────────► acknowledge(spooled), replayed into the index later
                        │                └─ full ────► refuse with retry_after_ms
                        └─ never will → dead letters ► acknowledge(dead_letter)

As many batches are written at a time as the index takes (the embedded one: one); meanwhile the next one gathers. So an
idle pipeline writes at once and a busy one writes large batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from prometheus_client.metrics_core import Metric

from gateway.clock import Clock
from gateway.errors import TaskFailedError
from gateway.locations.batch import DeviceEvents, count, size_bytes
from gateway.locations.buffer import Buffer, Caller, Limits, Submission
from gateway.locations.counters import Counters
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Outcomes, Refusal, Submitted
from gateway.locations.ports import DeadLetters, LocationIndex, OverflowStream, Spool
from gateway.locations.replay import Replay
from gateway.locations.settlement import MESSAGES, Verdict, merge
from gateway.locations.storing import Storing
from gateway.locations.times import EventTimes
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import gauge

# The shares of the time given to `stop`: for the index, the rest for the spool.
_INDEX_SHARE = 0.7
_RESUME_AFTER_S = 0.05
# Who waits longer for a place in the index goes another way, where there is one.
PATIENCE_S = 0.25
# Of a batch: what the limits allow.
MAX_EVENTS = 1 << 30
# Of which the index has some, and the overflow stream and the spool the others.
_MAX_FLUSHES = 32
_TAKEN = Submitted()
_TAKEN_PAUSE = Submitted(pause=True)

_log = Log("locations")


class LocationPipeline:
    """Owns the tasks `locations-flush`, `locations-replay` and one for each batch that is being written.

    Made and used on one running event loop. `ack_min` is the lowest durability that is acknowledged: with INDEXED, what
    the index does not take is refused. `times` judges the events that are submitted, before they are.
    `failed` is done when a task ended that must not; its exception, a TaskFailedError, carries the cause.
    """

    def __init__(
        self,
        index: LocationIndex,
        spool: Spool,
        dead_letters: DeadLetters,
        clock: Clock,
        random: Random,
        *,
        stream: OverflowStream | None = None,
        ack_min: Durability = Durability.SPOOLED,
        limits: Limits | None = None,
        times: EventTimes | None = None,
    ) -> None:
        self._index = index
        self._spool = spool
        self._clock = clock
        self._random = random
        self._limits = limits or Limits()
        self.times = times or EventTimes(clock)
        self._buffer = Buffer(self._limits)
        self._counters = Counters()
        self._replay = Replay(index, spool, dead_letters, clock, lambda: bool(self._buffer), self._counters)
        self._storing = Storing(index, stream, spool, self._replay, self._counters, random, ack_min)
        self._callers: dict[int, Caller] = {}
        self._paused: dict[str, deque[Caller]] = {}
        self._typical_events = 1
        self._idle_rounds = 0
        self._flushes: set[asyncio.Task[None]] = set()
        self._writing = 0
        self._room = asyncio.Event()
        self._in_flight: dict[int, list[Submission]] = {}
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()
        self._flush_began_s = float("-inf")
        self._running = False
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] = asyncio.Future()

    # Start and stop

    async def start(self) -> None:
        """Start flushing and replaying. The index and the spool are open already."""
        self._running = True
        self._tasks = [
            asyncio.create_task(self._flush_forever(), name="locations-flush"),
            asyncio.create_task(self._replay.run(), name="locations-replay"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    async def stop(self, timeout_s: float) -> None:
        """Refuse what comes from now on, flush the rest, and spool what the index did not take in time.

        Takes at most about `timeout_s`; what neither took is refused. Cancelled, it stops at once: what was not
        acknowledged then stays unsaid, and devices send it again. Harmless when called again.
        """
        self._running = False
        self._wake.set()
        self._enough.set()
        tasks, self._tasks = self._tasks, []
        try:
            if tasks:
                tasks[1].cancel()
                await asyncio.wait(tasks[:1], timeout=timeout_s * _INDEX_SHARE)
        finally:
            tasks += self._flushes
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._storing.close()
        # A commit that is still under way may succeed as well: the spool's copy is then a duplicate, by design.
        left = [one for batch in self._in_flight.values() for one in batch] + self._buffer.take_all()
        self._in_flight.clear()
        if left:
            await self._give_up(left, timeout_s * (1 - _INDEX_SHARE))

    async def _give_up(self, left: list[Submission], timeout_s: float) -> None:
        parts = [(submission.caller, submission.group) for submission in left]
        try:
            async with asyncio.timeout(timeout_s):
                verdicts = await self._storing.to_spool(parts, "shutting_down")
        except TimeoutError:
            _log.error("spool_too_slow", problem="it did not take the last location events in time")
            verdicts = [Verdict(parts, code="shutting_down")]
        self._settle(left, verdicts)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.failed.done():
            return
        cause = task.exception()
        if cause is None and not self._running:
            return
        error = TaskFailedError(f"the task {task.get_name()} ended")
        error.__cause__ = cause
        self._running = False
        self.failed.set_exception(error)
        # An awaiting task still gets the exception; this only says that none has to await it.
        self.failed.exception()

    # Taking in

    def submit(
        self, outcomes: Outcomes, sender: Any, account: str, device: str, events: Sequence[LocationEvent]
    ) -> Submitted:
        """Take the events of one message, which the caller has checked (see `event.check`). Never blocks.

        `outcomes` is told what becomes of them, with `sender`. Above the second mark, and when the pipeline does not
        run, none is taken.
        """
        number = len(events)
        if number == 0:
            return _TAKEN
        self._counters.accepted += number
        if not self._running:
            return Submitted(self._refuse_at_once(number, "shutting_down"))
        caller = self._callers.get(id(sender))
        if caller is None:
            caller = self._callers[id(sender)] = Caller(outcomes, sender, account)
        submission = Submission(caller, DeviceEvents(account, device, events), size_bytes(events))
        if not self._buffer.offer(submission):
            self._pause(caller)
            return Submitted(self._refuse_at_once(number, "overloaded"), pause=True)
        caller.submissions += 1
        self._wake.set()
        if self._buffer.enough:
            self._enough.set()
        if self._buffer.presses(account):
            self._pause(caller)
            return _TAKEN_PAUSE
        return _TAKEN

    def forget(self, sender: Any) -> None:
        """The sender is gone: what it sent is still stored and settled, but not told. Harmless when unknown."""
        caller = self._callers.pop(id(sender), None)
        if caller is not None:
            caller.outcomes = caller.sender = None

    def _refuse_at_once(self, number: int, code: str) -> Refusal:
        self._counters.refused[code] += number
        return Refusal(code, MESSAGES[code], self._random.randint(1000, 4000))

    def _pause(self, caller: Caller) -> None:
        if not caller.paused:
            caller.paused = True
            self._paused.setdefault(caller.account, deque()).append(caller)

    # Flushing

    async def _flush_forever(self) -> None:
        while self._running or self._buffer:
            if not self._buffer:
                await self._wait_for_events()
            elif len(self._flushes) >= _MAX_FLUSHES:
                await self._wait_for_room()
            elif self._writing < (pace := self._index.pace).calls:
                await self._gather()
                self._begin_flush(pace.events)
            elif not self._storing.has_stream:
                await self._wait_for_room()
            elif self._buffer.waiting_events > pace.waiting:
                self._begin_flush(past_index=True)
            elif not await self._wait_for_room(PATIENCE_S):
                self._pass_all()
        if self._flushes:
            await asyncio.wait(self._flushes)

    async def _wait_for_room(self, timeout_s: float | None = None) -> bool:
        """Until a batch was answered or settled; whether one was in time."""
        self._room.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.wait()
        except TimeoutError:
            return False
        return True

    def _pass_all(self) -> None:
        """The index does not answer: what waits for it has waited long enough."""
        while self._buffer and len(self._flushes) < _MAX_FLUSHES:
            self._begin_flush(past_index=True)

    def _begin_flush(self, max_events: int = MAX_EVENTS, *, past_index: bool = False) -> None:
        self._flush_began_s = self._clock.monotonic_s()
        batch = self._buffer.take(max_events)
        self._in_flight[id(batch)] = batch
        work = self._flush(batch, self._flush_began_s, past_index=past_index)
        task = asyncio.create_task(work, name="locations-batch")
        self._flushes.add(task)
        if not past_index:
            self._writing += 1
        task.add_done_callback(self._flush_ended)

    def _written(self) -> None:
        """The index has answered a batch; what it did not take may still be on its way elsewhere."""
        self._writing -= 1
        self._room.set()

    def _flush_ended(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._room.set()
        if not task.cancelled() and task.exception() is not None:
            self._task_ended(task)

    async def _wait_for_events(self) -> None:
        """Until something was submitted. Senders still paused are let go in portions.

        Each portion is twice the one before, for those let go may have nothing to send.
        """
        self._wake.clear()
        try:
            async with asyncio.timeout(_RESUME_AFTER_S if self._paused else None):
                await self._wake.wait()
        except TimeoutError:
            self._resume(self._typical_events, self._idle_rounds)
            self._idle_rounds += 1

    async def _gather(self) -> None:
        """Under load, let a batch grow until `gather_s` after the one before began, or until it is enough."""
        delay_s = self._flush_began_s + self._limits.gather_s - self._clock.monotonic_s()
        if delay_s <= 0 or not self._running or self._buffer.enough:
            return
        self._enough.clear()
        try:
            async with asyncio.timeout(delay_s):
                await self._enough.wait()
        except TimeoutError:
            pass

    async def _flush(self, batch: list[Submission], began_s: float, *, past_index: bool) -> None:
        parts = [(submission.caller, submission.group) for submission in batch]
        if past_index:
            verdicts = await self._storing.store_past_index(parts)
        else:
            verdicts = await self._storing.store(parts, self._written)
        del self._in_flight[id(batch)]
        self._typical_events = self._settle(batch, verdicts) // len(batch)
        self._counters.flushed(self._clock.monotonic_s() - began_s)
        self._idle_rounds = 0
        self._resume(self._typical_events, 0)

    # Telling

    def _settle(self, batch: list[Submission], verdicts: list[Verdict]) -> int:
        """The batch is decided: count all of it first, then tell, so that it is right when senders are told.

        How many events it held.
        """
        whole = self._buffer.settled(batch)
        for submission in batch:
            caller = submission.caller
            caller.submissions -= 1
            if caller.submissions == 0 and not caller.paused and caller.outcomes is not None:
                del self._callers[id(caller.sender)]
        for verdict in verdicts:
            events = whole if len(verdicts) == 1 else count(group for _, group in verdict.parts)
            if verdict.durability is not None:
                self._counters.acknowledged[verdict.durability] += events
            elif events:
                self._counters.refused[verdict.code] += events
        for verdict in verdicts:
            self._tell(verdict)
        return whole

    def _tell(self, verdict: Verdict) -> None:
        for caller, events in merge(verdict.parts):
            if (outcomes := caller.outcomes) is None:
                continue
            try:
                if verdict.durability is not None:
                    outcomes.acknowledge(caller.sender, events, verdict.durability)
                else:
                    refusal = Refusal(verdict.code, MESSAGES[verdict.code], verdict.retry_after_ms)
                    outcomes.refuse(caller.sender, [event.id for event in events], refusal)
            except Exception as error:
                self._sender_failed(caller.sender, error)

    def _sender_failed(self, sender: Any, error: Exception) -> None:
        """One connection's fault must not stop the others; its device sends again what it was not told about."""
        self._counters.sender_errors += 1
        _log.error("sender_failed", exc_info=error)
        self.forget(sender)

    def _resume(self, typical_events: int, doublings: int) -> None:
        """Let as many paused senders of each account read again as there is room for, the longest paused first."""
        for account in list(self._paused):
            room = self._buffer.room_for(account, typical_events) << doublings
            self._resume_some(self._paused[account], room)
            if not self._paused[account]:
                del self._paused[account]

    def _resume_some(self, paused: deque[Caller], room: int) -> None:
        while paused and room > 0:
            caller = paused.popleft()
            caller.paused = False
            if (outcomes := caller.outcomes) is None:
                continue
            room -= 1
            if caller.submissions == 0:
                del self._callers[id(caller.sender)]
            try:
                outcomes.resume(caller.sender)
            except Exception as error:
                self._sender_failed(caller.sender, error)

    # Numbers

    def conservation(self) -> int:
        """Accepted − (acknowledged + refused + pending): 0 at all times, or events were lost or made up."""
        return self._counters.accepted - self._counters.settled() - self._buffer.events

    def collect(self) -> Iterator[Metric]:
        """Metric families `heiwa_locations_*` for a Prometheus registry; call it on the event loop's thread."""
        yield from self._counters.families()
        yield from self.times.collect()
        yield gauge("heiwa_locations_pending_events", "Events taken in and not settled.", self._buffer.events)
        yield gauge("heiwa_locations_pending_bytes", "An upper bound of their size.", self._buffer.size_bytes)
        yield gauge(
            "heiwa_locations_paused_senders", "Connections asked to stop reading.", sum(map(len, self._paused.values()))
        )
        yield gauge("heiwa_locations_spool_events", "Events in the spool.", self._spool.events)
        yield gauge("heiwa_locations_spool_bytes", "Size of the spool's records.", self._spool.size_bytes)
        yield gauge("heiwa_locations_unaccounted_events", "Conservation: must be 0.", self.conservation())
