"""Which event times are taken, and whether it is our own clock that is wrong.

An event must not be older than what the index keeps, nor of the future. Where most accounts' events are out of these
bounds the wall clock is, and devices are asked to send again later what is good. Where there are too few accounts for
that, each account with several devices is asked for itself. Where nobody can be asked, a step of our own clock counts,
and so does a start later than all that is stored: the clock may be ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from zlib import crc32

from prometheus_client.metrics_core import Metric

from gateway.clock import Clock
from gateway.locations.event import DAY_MS, NEWEST_MS, OLDEST_MS, LocationEvent, Problem, check_form, check_time
from gateway.locations.fleet_time import FleetTime
from gateway.locations.settlement import MESSAGES
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import gauge

# Spread over a minute, so that a fleet does not come back at once.
RETRY_MS = 60_000
_LOOK_EVERY_S = 1.0
# For so long after a step of the wall clock, or after a start, either side may be the right one.
_DOUBT_S = 3600.0

_log = Log("locations")


class _Steps:
    """Steps of the wall clock against the monotonic one: a correction, or a fault that will be corrected."""

    def __init__(self, now_ms: int, now_s: float) -> None:
        self._apart_ms = now_ms - now_s * 1000
        self._since_s: float | None = None

    def step_ms(self, now_ms: int, now_s: float) -> int:
        """By how much the wall clock was set a while ago; 0: by no more than a day, or long ago."""
        step_ms = now_ms - now_s * 1000 - self._apart_ms
        if abs(step_ms) > NEWEST_MS:
            since_s = self._since_s = now_s if self._since_s is None else self._since_s
            if now_s - since_s < _DOUBT_S:
                return round(step_ms)
        self._apart_ms += step_ms
        self._since_s = None
        return 0


class EventTimes:
    """Judges the times of events, by the fleet's and, where it is too small, by what was stored before.

    Used on the event loop's thread.
    """

    def __init__(
        self, clock: Clock, retention_days: int = 30, newest_ms: Callable[[], int | None] = lambda: None
    ) -> None:
        """`newest_ms`: the beginning of the newest day that is stored; None: there is none."""
        self._clock = clock
        self._newest_ms = newest_ms
        self._max_age_ms = min(OLDEST_MS, retention_days * DAY_MS)
        self._fleet = FleetTime()
        self._began_s = clock.monotonic_s()
        self._steps = _Steps(clock.time_ms(), self._began_s)
        self._step_ms = 0
        self._looked_s = float("-inf")
        self._apart_ms = 0.0
        self._joined = 0
        self._offset_ms: int | None = None
        self._own_offsets_ms: dict[str, int] = {}
        self._off = False
        self._doubted = False

    @property
    def offset_ms(self) -> int | None:
        """How far most accounts' events are from the wall clock, positive: it is behind them; None: unknown."""
        self._refresh()
        return self._offset_ms

    @property
    def clock_off(self) -> bool:
        """Whether most accounts' events would be refused for their times; where there are too few, one account's."""
        return self._worst_ms() is not None

    def problem(self) -> str:
        """What is wrong with the wall clock, for a person; empty: nothing."""
        offset_ms = self._worst_ms()
        if offset_ms is None:
            return ""
        side = "behind" if offset_ms > 0 else "ahead of"
        return f"the wall clock is {abs(offset_ms) / DAY_MS:.1f} days {side} the events"

    def judge(self, account: str, device: str, events: Sequence[LocationEvent], now_ms: int) -> dict[int, Problem]:
        """What is wrong with the events of one message, by position. `now_ms` is the wall clock."""
        newest = events[0] if events[0].time > events[-1].time else events[-1]
        self._fleet.seen(account, device, newest.time, self._clock.monotonic_s())
        found: dict[int, Problem] = {}
        oldest_ms, newest_ms = now_ms - self._max_age_ms, now_ms + NEWEST_MS
        for position, event in enumerate(events):
            timely = oldest_ms <= event.time <= newest_ms
            if not timely and (text := check_time(event.time, now_ms, self._max_age_ms)) is not None:
                found[position] = self._untimely(account, event, text, now_ms)
            elif (text := check_form(event)) is not None:
                found[position] = Problem(text)
        return found

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        offset_ms = self.offset_ms
        yield gauge("heiwa_clock_off", "1: what devices send does not fit the wall clock: alarm.", int(self.clock_off))
        yield gauge(
            "heiwa_clock_behind_events_seconds",
            "How far the median account's events are ahead of the wall clock; negative: behind it; 0: unknown.",
            (offset_ms or 0) / 1000,
        )

    def _untimely(self, account: str, event: LocationEvent, text: str, now_ms: int) -> Problem:
        offset_ms = self.offset_ms
        said_ms = self._own_offsets_ms.get(account) if offset_ms is None else offset_ms
        doubted = said_ms is None and (self._was_timely(event, now_ms) or self._is_newer_than_stored(event, now_ms))
        if not (doubted or self._is_off(said_ms)):
            return Problem(text)
        return Problem(
            f"{MESSAGES['clock']} - at `$.time`",
            "clock",
            RETRY_MS + crc32(event.id.encode(errors="replace")) % RETRY_MS,
        )

    def _was_timely(self, event: LocationEvent, now_ms: int) -> bool:
        """Whether the event would have been taken had our clock not been set a while ago."""
        return self._step_ms != 0 and check_time(event.time, now_ms - self._step_ms, self._max_age_ms) is None

    def _is_newer_than_stored(self, event: LocationEvent, now_ms: int) -> bool:
        """Whether the event goes on from what is stored, all of which would itself be too old by our clock, which
        nobody has confirmed since the start: it is ahead, or the gateway was away for long."""
        newest_ms = self._newest_ms()
        if newest_ms is None or newest_ms + DAY_MS >= now_ms - self._max_age_ms or event.time > now_ms:
            return False
        if self._clock.monotonic_s() - self._began_s >= _DOUBT_S:
            return False
        if not self._doubted:
            self._doubted = True
            _log.warning("clock_doubted", stored_days_ago=round((now_ms - newest_ms) / DAY_MS))
        return event.time >= newest_ms - self._max_age_ms

    def _is_off(self, offset_ms: int | None) -> bool:
        """Whether events so far from the wall clock would be refused."""
        return offset_ms is not None and not -self._max_age_ms <= offset_ms <= NEWEST_MS

    def _worst_ms(self) -> int | None:
        """How far events are from a wall clock that is off; None: it is not."""
        offset_ms = self.offset_ms
        said_ms = self._own_offsets_ms.values() if offset_ms is None else [offset_ms]
        return max(filter(self._is_off, said_ms), key=abs, default=None)

    def _refresh(self) -> None:
        now_ms, now_s = self._clock.time_ms(), self._clock.monotonic_s()
        apart_ms = now_ms - now_s * 1000
        fresh = now_s - self._looked_s < _LOOK_EVERY_S and abs(apart_ms - self._apart_ms) <= NEWEST_MS
        if fresh and self._fleet.joined == self._joined:
            return
        self._looked_s, self._apart_ms, self._joined = now_s, apart_ms, self._fleet.joined
        before_ms, self._step_ms = self._step_ms, self._steps.step_ms(now_ms, now_s)
        if self._step_ms and not before_ms:
            _log.warning("clock_stepped", by_s=round(self._step_ms / 1000))
        self._offset_ms = self._found_offset_ms(now_ms, now_s)
        self._own_offsets_ms = self._fleet.own_offsets_ms(now_ms, now_s)
        off = self.clock_off
        if off and not self._off:
            _log.critical("clock_off", problem=self.problem())
        elif self._off and not off:
            _log.info("clock_agrees")
        self._off = off

    def _found_offset_ms(self, now_ms: int, now_s: float) -> int | None:
        offset_ms = self._fleet.offset_ms(now_ms, now_s)
        newest_ms = self._newest_ms()
        if offset_ms is None and newest_ms is not None and newest_ms - now_ms > NEWEST_MS:
            # No event so far ahead is ever taken: the clock was later once, however few accounts there are.
            return newest_ms - now_ms
        return offset_ms
