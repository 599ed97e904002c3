"""Sends the websockets of a process away, evenly, when it has to leave; and lets them stay when it need not any more.

Four sources ask: target health, the API, SIGUSR1, SIGTERM. The states and what leads from one to the next are in
states.py, how many to close in pacer.py, until when in window.py.

All moments here are of the drain's own clock: monotonic seconds times `drain.speed`, which is 1 but in rehearsals.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from gateway.clock import Clock
from gateway.connections.door import Door
from gateway.connections.ending import DRAIN, SHIFT, SHUTDOWN, Cause
from gateway.connections.eviction import cut, evict
from gateway.drain import window
from gateway.drain.deployment import TINY, Deployment, Side
from gateway.drain.following import Following
from gateway.drain.keeper import Keeper
from gateway.drain.leaving import Leaving, Origin, receipt_of
from gateway.drain.pacer import NO_BOUND_PER_S, TICK_S, Pacer, bound_per_s
from gateway.drain.plan import Plan, play
from gateway.drain.ports import Receipts
from gateway.drain.receipt import Receipt
from gateway.drain.standing import Standing
from gateway.drain.states import HEARD, Reaction, Signal, State, due, follow, is_leaving, is_refusing, may_begin
from gateway.drain.weights import Outcome, Shift
from gateway.settings.model import Drain
from gateway.telemetry.log import Log

# How long beyond the deadline a half received message, or an ack under way, may hold up its connection.
_DEFER_S = 5.0
# Waiting for a tick or for news, whichever comes first, is never longer.
_IDLE_S = 3600.0
# At SIGTERM: for the last ones to answer their close, and for the disk to take the receipt.
_CUT_S = 2.0
_RECEIPT_S = 1.0
# uvloop takes less than half a millisecond for "at once", and would do nothing else.
_SHORTEST_TICK_S = 1e-3


class Drainer:
    """`run` is the one task; everything else may be called at any moment from the same loop."""

    def __init__(self, settings: Drain, door: Door, clock: Clock, chance: Random, receipts: Receipts) -> None:
        self.settings = settings
        self._tick_s = max(TICK_S / settings.speed, _SHORTEST_TICK_S)
        self._door = door
        self._hub = door.hub
        self._clock = clock
        self._chance = chance
        self._log = Log("drain")
        self._changed = asyncio.Event()
        self._withdrawn = False
        self._ignored = False
        self._shortened = False
        self._failing = ""
        self.keeper = Keeper(receipts)
        self.following = Following(settings.shift_hops)
        self.state = State.REGISTERING
        self.standing = Standing()
        self.leaving: Leaving | None = None
        self.last: Receipt | None = None
        self.cancelled = 0
        self.overrun = 0
        self.leftover = 0
        self.closed: Counter[str] = Counter()

    # What is asked

    @property
    def connections(self) -> int:
        """Open websockets."""
        return self._hub.registry.total

    @property
    def remaining(self) -> int:
        """Connections that nobody has sent away yet."""
        return self._hub.registry.total - self._hub.leaving

    @property
    def refusing(self) -> bool:
        """Whether the process is not ready for traffic: it leaves, or ends."""
        return is_refusing(self.state)

    @property
    def stop_timeout_s(self) -> float:
        """From SIGTERM to SIGKILL. The setting's default gives way to what the task definition says."""
        default_s = Drain().stop_timeout_s
        known_s = self.standing.stop_timeout_s
        return known_s if known_s and self.settings.stop_timeout_s == default_s else self.settings.stop_timeout_s

    @property
    def ages_s(self) -> tuple[float, float] | None:
        """From when to when connections are asked to come back, by their age on the drain's clock; None: never."""
        ages, speed = self._hub.ages_s, self.settings.speed
        return None if ages is None else (ages[0] * speed, ages[1] * speed)

    def now_s(self) -> float:
        """The drain's clock."""
        return self._clock.monotonic_s() * self.settings.speed

    def margin_s(self) -> float:
        """M."""
        return window.margin_s(self.settings.margin_s, self._hub.settings.close_timeout_s * self.settings.speed)

    def window_s(self) -> float:
        """W as settings, delay and polls have it now; where no balancer counts the time, the setting as it is."""
        if self.settings.window_s and not self.standing.grouped:
            return self.settings.window_s
        longest_s = window.longest_s(self.standing.delay_s, self.margin_s(), self.standing.period_s)
        return window.window_s(self.settings.window_s, longest_s)

    def bound_per_s(self) -> float:
        """Reconnects a second that the receivers take from this process; other processes may drain at the same time."""
        peers = self.standing.peers
        return self._bound_per_s(peers.healthy, peers.draining + 1)

    def planner(self, window_s: float, tasks: int) -> Callable[[], Plan]:
        """What a drain over `window_s` that began now would do, with `tasks` like this one at the same time.

        Those do not receive; where no other task is known, as many new ones are assumed. Playing it takes µs a
        connection: the result may be called in a thread.
        """
        chance = Random(self._chance.random())  # noqa: S311 - a play
        others = max(0, self.standing.peers.healthy - (tasks - 1))
        return partial(play, self.remaining, tasks, window_s, self._bound_per_s(others or tasks, tasks), chance)

    def _bound_per_s(self, receivers: int, draining: int) -> float:
        if not self.standing.grouped:
            return NO_BOUND_PER_S
        return bound_per_s(self.settings.receivers or receivers, draining, self.settings.receiver_handshakes_per_s)

    def learn(self, standing: Standing) -> None:
        """What a round of polls found out, as a whole."""
        self.standing = standing
        if standing.grouped:
            self._check_window()
        self._changed.set()

    def _check_window(self) -> None:
        """Say so once the balancer's delay, or the pace of the polls, is too short for the window of the settings."""
        shortened = self.settings.window_s > self.window_s()
        if shortened and not self._shortened:
            self._log.warning("window_shortened", setting_s=self.settings.window_s, window_s=round(self.window_s(), 1))
        self._shortened = shortened

    # Who asks for what

    def order(self, origin: Origin, window_s: float | None = None) -> None:
        """Begin a drain that only `cancel` takes back. `window_s` None: W. Raises IllegalTransitionError."""
        after = follow(self.state, Signal.ORDERED)
        window_s = window_s or self.window_s()
        self._ignored = False
        self._enter(after)
        self._begin(origin, window_s, self.now_s() + window_s)

    def cancel(self) -> None:
        """Let the rest stay. Raises IllegalTransitionError. A balancer that says draining is not listened to any more,
        until it has said something else."""
        after = follow(self.state, Signal.CANCELLED)
        self._ignored = self._withdrawn
        self._stay(after)

    def hear(self, signal: Signal | None, detected_s: float, registered_s: float | None) -> None:
        """What target health says, after each round of polls; moments of the drain's clock. Never raises."""
        good, gone = signal in (Signal.REGISTERED, Signal.RETURNED), signal in (Signal.WITHDRAWN, Signal.LOST)
        if good:
            self._ignored = self._withdrawn = False
        elif gone:
            self._withdrawn = True
        self._changed.set()
        if signal is None:
            return
        reaction = HEARD.get((self.state, signal))
        if reaction is Reaction.SERVE:
            self._move(Signal.REGISTERED)
        elif reaction is Reaction.STAY and self._by_health():
            self._stay(follow(self.state, Signal.RETURNED))
        elif reaction in (Reaction.BEGIN, Reaction.SHORTEN) and registered_s is not None and not self._ignored:
            self._leave_by_health(reaction, signal, detected_s, registered_s)

    def follow_weights(self, found: Deployment | None, own: Side, asked_s: float, fresh_s: float) -> None:
        """What the container service says of the deployment of our service, and our part in it. Never raises.

        `asked_s`: when it was asked before; `fresh_s`: for how long this answer is believed.
        """
        if not self.settings.follow_weights:
            return
        now_s = self.now_s()
        self.following.believe(now_s + fresh_s)
        known = found, own, asked_s, now_s, self.remaining, self._clock.time_ms()
        signal = self.following.learn(*known)
        if signal is Signal.SETTLED:
            if self.state is State.SHIFTING:
                self._end_shift()
                self._move(signal)
            self.following.end()
            # The next one may have begun.
            signal = self.following.learn(*known)
        if signal is Signal.SHIFTED and self.state is State.SERVING:
            self._move(signal)
            end_s = self.following.end_s(now_s)
            self._begin(Origin.WEIGHTS, end_s - now_s, end_s)
        self._changed.set()

    def settle(self) -> None:
        """There is no target group that would have to list us."""
        if self.state is State.REGISTERING:
            self._move(Signal.REGISTERED)

    async def terminate(self, registered: Callable[[], Awaitable[bool | None]] | None = None) -> tuple[int, int]:
        """SIGTERM: send all connections away in the time there is, and cut the rest. Returns both numbers.

        No connection is taken in from now on, and nothing takes that back. `registered` asks the load balancer, for
        `window.QUICK_S` at most, and says what `window.stop_window_s` wants; None: there is none. Cancelled: what is
        left stays open.
        """
        asked_s, after = self.now_s(), follow(self.state, Signal.TERMINATED)
        if self.leaving is not None and self.state is not State.DRAINED:
            self._keep(self._receipt(self.leaving, "terminated"))
        self.leaving = None
        self._hub.admission.draining = True
        self._door.end()
        self._enter(after)
        listed = None if registered is None else await registered()
        window_s = window.stop_window_s(self.remaining, self.stop_timeout_s, listed)
        # In a rehearsal the poll takes its real time.
        asked_s = max(asked_s, self.now_s() - window.QUICK_S)
        leaving = self._begin(Origin.SIGTERM, window_s, asked_s + window_s)
        while self.remaining:
            # Once more at the deadline: everybody is told, however late it has become.
            self._tick(leaving, now_s := self.now_s())
            if now_s >= leaving.pacer.deadline_s:
                break
            await asyncio.sleep(self._tick_s)
        # The stores need the rest of the time before SIGKILL.
        leaving.leftover = await cut(self._hub, min(self._hub.settings.close_timeout_s, _CUT_S))
        self.leftover += leaving.leftover
        self._keep(self._receipt(leaving, "leftovers" if leaving.leftover else "terminated"))
        self._move(Signal.ENDED)
        await self.keeper.flush(_RECEIPT_S)
        return leaving.tally.total, leaving.leftover

    async def run(self) -> None:
        """Pace whatever drain there is, until cancelled."""
        while True:
            try:
                self.turn()
            except Exception as error:
                # Without a drain connections are cut later; with the process they would be cut now.
                if repr(error) != self._failing:
                    self._log.error("drain_failed", exc_info=error)
                self._failing = repr(error)
            paces = is_leaving(self.state) or self.state is State.SHIFTING
            timeout_s = self._tick_s if paces else _IDLE_S
            # Not wait_for: before Python 3.12 it may swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            self._changed.clear()

    # The drain itself

    def turn(self) -> None:
        """Do what is due now in the drain under way, if there is one."""
        leaving, now_s = self.leaving, self.now_s()
        if leaving is not None and leaving.shift is not None and self.state is State.SHIFTING:
            self._tick_shift(leaving, leaving.shift, now_s)
        if leaving is None or not is_leaving(self.state):
            return
        begins = self._may_begin(leaving, now_s)
        while (signal := due(self.state, self.connections, self.remaining, begins)) is not None:
            self._move(signal)
            if signal is Signal.EMPTY:
                self._keep(self._receipt(leaving, "drained"))
        if self.state is State.DRAINING:
            self._tick(leaving, now_s)

    def _may_begin(self, leaving: Leaving, now_s: float) -> bool:
        healthy = self.standing.peers.healthy if self.standing.grouped else None
        return may_begin(healthy, self.settings.min_receivers, leaving.passed_share(now_s))

    def _tick(self, leaving: Leaving, now_s: float) -> None:
        pacer, by_sigterm = leaving.pacer, leaving.origin is Origin.SIGTERM
        bound_per_s = self.bound_per_s()
        count = pacer.due(now_s, self.remaining, bound_per_s)
        spread_s = window.spread_s(leaving.connections, leaving.window_s, bound_per_s)
        cause = SHUTDOWN if by_sigterm else DRAIN
        # At the deadline those with something under way get a moment more; before it they only come last.
        busy_too = by_sigterm or now_s < pacer.deadline_s or now_s >= pacer.deadline_s + _DEFER_S
        closed = evict(self._hub, cause, count, tick_s=pacer.worked_s, spread_s=spread_s, busy_too=busy_too)
        self._count(leaving, now_s, cause, closed)

    def _count(self, leaving: Leaving, now_s: float, cause: Cause, closed: int) -> None:
        self.overrun += leaving.pacer.closed(closed)
        leaving.tally.add(now_s - leaving.began_s, closed)
        self.closed[cause.name] += closed

    def _tick_shift(self, leaving: Leaving, shift: Shift, now_s: float) -> None:
        """Those who are sent away meet the new revision by chance; those who have not yet done so go first."""
        peers = self.standing.peers
        receivers, leavers = shift.receivers or peers.healthy, shift.leavers or peers.draining + 1
        # The new revision takes its part of what all old tasks send away.
        bound_per_s = self._bound_per_s(receivers, leavers) / max(shift.weight, TINY)
        rate_per_s = self.following.rate_per_s(now_s, self.remaining) if self.standing.receives(shift.groups) else 0.0
        pacer, elders, aged = leaving.pacer, self.following.elders, self.following.elders.aged
        count = pacer.steady(now_s, rate_per_s, min(self.remaining, shift.left), bound_per_s)
        closed = evict(self._hub, SHIFT, count, tick_s=pacer.worked_s, spread_s=0, busy_too=False, first=elders)
        shift.closed(closed, elders.aged - aged)
        self._count(leaving, now_s, SHIFT, closed)

    # Beginnings and ends

    def _leave_by_health(self, reaction: Reaction, signal: Signal, detected_s: float, registered_s: float) -> None:
        standing = self.standing
        deadline_s = window.deadline_s(
            signal, detected_s, registered_s, self.window_s(), standing.delay_s, self.margin_s()
        )
        if reaction is Reaction.BEGIN:
            self._move(signal)
            self._begin(Origin.TARGET_HEALTH, deadline_s - detected_s, deadline_s)
        elif self.leaving is not None:
            # A person began it and the balancer joined in, or its delay was not known yet: it cuts at the end of that.
            self.leaving.shorten(deadline_s)

    def _by_health(self) -> bool:
        return self.leaving is not None and self.leaving.origin is Origin.TARGET_HEALTH

    def _begin(self, origin: Origin, window_s: float, deadline_s: float) -> Leaving:
        now_s = self.now_s()
        self._end_shift(Outcome.CLEAN_UP)
        leaving = self.leaving = Leaving(
            origin,
            now_s,
            self._clock.time_ms(),
            window_s,
            Pacer(now_s, deadline_s, self._chance.random()),
            self._hub.registry.total,
            self._closed_by_cause(),
            shift=self.following.shift if origin is Origin.WEIGHTS else None,
        )
        # A balancer that lists us as draining sends no new connections; those still on the way may stay a while.
        self._hub.admission.draining = origin not in (Origin.TARGET_HEALTH, Origin.WEIGHTS)
        self._log.info("drain_begun", origin=origin.value, connections=self.remaining, window_s=round(window_s, 1))
        return leaving

    def _end_shift(self, outcome: Outcome | None = None) -> None:
        """Keep the receipt of a shift that is under way, if there is one."""
        leaving = self.leaving
        if leaving is None or leaving.shift is None:
            return
        self.leaving = None
        outcome = leaving.shift.outcome or outcome or Outcome.CLEAN_UP
        self._keep(self._receipt(leaving, outcome.value))
        self._log.info("shift_over", outcome=outcome.value, sent_away=leaving.tally.total, stayed=self.remaining)

    def _stay(self, after: State) -> None:
        if self.state is State.SHIFTING:
            self._end_shift(Outcome.CANCELLED)
            self.following.end()
        leaving, drained = self.leaving, self.state is State.DRAINED
        self.leaving = None
        self._hub.admission.draining = False
        self.cancelled += 1
        self._enter(after)
        if leaving is not None and not drained:
            self._keep(self._receipt(leaving, "cancelled"))
            self._log.info("drain_cancelled", sent_away=leaving.tally.total, stayed=self.remaining)

    def _receipt(self, leaving: Leaving, outcome: str) -> Receipt:
        return receipt_of(leaving, outcome, self.now_s(), self.standing, self._closed_by_cause(), self.remaining)

    def _keep(self, receipt: Receipt) -> None:
        self.last = receipt
        if receipt.connections or receipt.sent_away:
            self.keeper.keep(receipt)
        self._changed.set()

    def _closed_by_cause(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (reason, _, _), count in self._hub.disconnects.items():
            counts[reason] += count
        return counts

    def _move(self, signal: Signal) -> None:
        self._enter(follow(self.state, signal))

    def _enter(self, after: State) -> None:
        self._log.info("drain_state", state=after.value, before=self.state.value)
        self.state = after
        self._changed.set()
