"""One device: measures, stores while offline, and comes back as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import math
from random import Random

from websockets.asyncio.client import ClientConnection

from gateway.clock import Clock
from gateway.device.dialing import Refused, Unreached, dial
from gateway.device.latency import Latency
from gateway.device.measure import Measurer
from gateway.device.outbox import Outbox
from gateway.device.plan import Observer, Plan, Record, Token
from gateway.device.reconnect import Return, Stop, after_close, after_goaway, after_refusal, backoff_s
from gateway.device.session import End, Session

# A connection that lasted this long was a success: the next failure starts with a short wait again.
STEADY_S = 10.0


class Device:
    """Carries out a Plan once; `record` may be read at any time."""

    def __init__(self, plan: Plan, clock: Clock, random: Random, observer: Observer) -> None:
        self.record = Record(Outbox(plan.capacity, plan.window, plan.resend_after_s), Latency())
        self._plan = plan
        self._clock = clock
        self._random = random
        self._observer = observer
        self._token = plan.token
        self._failures = 0
        self._finish_by_s = math.inf
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._measurer = Measurer(plan, self.record, clock, observer, self._wake)
        self._measuring: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Measure no more, send what is left for a bounded time, then end; called again: end now."""
        now_s = self._clock.monotonic_s()
        self._finish_by_s = now_s if self._stopping.is_set() else now_s + self._plan.finish_timeout_s
        asyncio.get_running_loop().call_later(self._finish_by_s - now_s, self._wake.set)
        self._stopping.set()
        if self._measuring is not None:
            self._measuring.cancel()
        self._wake.set()

    async def run(self) -> None:
        """Until the plan is fulfilled and everything is answered, `stop` was called, or the server says never."""
        self._measuring = asyncio.create_task(self._measurer.run(), name="device-measure")
        self._measuring.add_done_callback(lambda _: self._wake.set())
        over: asyncio.TimerHandle | None = None
        if self._plan.duration_s is not None:
            over = asyncio.get_running_loop().call_later(self._plan.duration_s, self._time_is_up)
        try:
            while not self._done():
                action = await self._connect_once()
                if isinstance(action, Stop):
                    self.record.stopped_by = action.why
                    return
                await self._come_back(action)
        finally:
            if over is not None:
                over.cancel()
            self._measuring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._measuring

    def _time_is_up(self) -> None:
        """The duration is over: what is left has a bounded time to be delivered, whether the server is there or not."""
        if not self._stopping.is_set():
            self.stop()

    def _done(self) -> bool:
        if self._measuring is None or not self._measuring.done():
            return False
        return len(self.record.outbox) == 0 or self._clock.monotonic_s() >= self._finish_by_s

    def _open_timeout_s(self) -> float:
        return max(0.1, min(self._plan.open_timeout_s, self._finish_by_s - self._clock.monotonic_s()))

    async def _connect_once(self) -> Return | Stop:
        self._observer.state("connecting")
        opened = await dial(self._plan.url, self._token.text, self._open_timeout_s(), "heiwa-device")
        if isinstance(opened, Refused):
            return self._refused(opened)
        if isinstance(opened, Unreached):
            return self._unreachable(opened)
        if isinstance(opened, Stop):
            return opened
        async with opened:
            return await self._converse(opened)

    async def _converse(self, connection: ClientConnection) -> Return | Stop:
        opened_s = self._clock.monotonic_s()
        self.record.connects += 1
        self.record.answered = True
        self._observer.state("connected")
        self._observer.note(f"connected to {self._plan.url}")
        session = Session(connection, self._plan, self.record, self._clock, self._observer, self._wake)
        end = await session.run(self._token, self._renewed, self._done, self._measurer.room.set)
        if self._clock.monotonic_s() - opened_s >= STEADY_S:
            self._failures = 0
        if self._done():
            return Return(0.0)
        return self._ended(end)

    def _ended(self, end: End) -> Return | Stop:
        failures = self._failures
        self._failures += 1
        mints = self._plan.mint is not None
        if end.goaway is not None:
            asked = end.goaway
            action = after_goaway(
                asked.reason, asked.reconnect_after_ms, mints=mints, failures=failures, random=self._random
            )
            how = f"was to end ({asked.reason})"
        else:
            action = after_close(end.code, end.reason, mints=mints, failures=failures, random=self._random)
            how = f"closed with {end.code} {end.reason}".rstrip() if end.code else "broke"
        if isinstance(action, Return):
            self._observer.note(f"the connection {how}; back in {action.wait_s:.1f} s")
        return action

    def _refused(self, refused: Refused) -> Return | Stop:
        self.record.answered = True
        action = after_refusal(
            refused.status,
            refused.detail,
            refused.retry_after_s,
            mints=self._plan.mint is not None,
            failures=self._failures,
            random=self._random,
        )
        self._failures += 1
        if isinstance(action, Return):
            said = f"HTTP {refused.status}{f' ({refused.detail})' if refused.detail else ''}"
            self._observer.note(f"refused with {said}; again in {action.wait_s:.1f} s")
        return action

    def _unreachable(self, unreached: Unreached) -> Return | Stop:
        if self._stopping.is_set():
            return Stop(f"{self._plan.url} cannot be reached: {unreached.why}")
        wait_s = backoff_s(self._failures, self._random)
        self._failures += 1
        self._observer.note(f"cannot reach {self._plan.url} ({unreached.why}); again in {wait_s:.1f} s")
        return Return(wait_s)

    async def _come_back(self, action: Return) -> None:
        if action.new_token and self._plan.mint is not None:
            self._token = self._plan.mint()
        if action.wait_s > 0 and not self._done():
            self._observer.state("waiting")
            # Whoever asks to stop does not want to sit out a long wait: one more try at once, and after that only as
            # it was told, for it is one of many that come back.
            over = self._wake if self._stopping.is_set() else self._stopping
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(action.wait_s):
                    await over.wait()

    def _renewed(self, token: Token) -> None:
        self._token = token
