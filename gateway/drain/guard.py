"""Whether a deployment that waits at a pause hook may go on: the new revision against the old one. Pure.

A share of devices says nothing: five percent of twenty devices are one. So a *number* of devices must have been on the
new revision, for a time, before anything is decided; then its figures must be near those of the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from gateway.drain.deployment import STAGES

# One broken device in a hundred is no broken revision: a rate counts from so many events on.
FEW_EVENTS = 5
# So many acks are to be missing before their absence says something: a device may have nothing to tell.
MANY_ACKS = 20
# Of the handshakes on a revision that has few devices because it does not keep them.
_MOST = 0.5
# Before production traffic moves; at the first of them ECS has no weights to tell.
_BEFORE = STAGES[: STAGES.index("PRE_PRODUCTION_TRAFFIC_SHIFT")]
_AFTER = "POST_PRODUCTION_TRAFFIC_SHIFT"


class Action(StrEnum):
    """WAIT: not enough devices yet. The others are those of Amazon ECS."""

    WAIT = "WAIT"
    CONTINUE = "CONTINUE"
    ROLLBACK = "ROLLBACK"


class Bounds(Struct, frozen=True):
    """`min_devices` in each of the last `minutes`. Rates of the new revision may be `ratio` times those of the old one,
    or below the floor: rates are events a device and hour, `ack_floor_s` is seconds."""

    min_devices: int = 100
    minutes: int = 5
    ratio: float = 1.5
    ack_floor_s: float = 0.25
    rate_floor: float = 0.1


class Readings(Struct, frozen=True):
    """What one revision told, by minute, oldest first: connections; p99 of the acks in seconds; and, as sums over all
    minutes, closes that were the service's fault, refused handshakes, all closes that nobody planned, acks, events
    that were refused, and handshakes that were not."""

    devices: Sequence[float] = ()
    ack_p99_s: Sequence[float] = ()
    our_fault: float = 0.0
    refused: float = 0.0
    closed: float = 0.0
    acked: float = 0.0
    events_refused: float = 0.0
    opened: float = 0.0

    @property
    def device_hours(self) -> float:
        return sum(self.devices) / 60

    @property
    def handshakes(self) -> float:
        return self.opened + self.refused


class Pause(Struct, frozen=True):
    """A deployment that waits. `weight`: the part of new connections that the new revision has, 0 to 1; None: not told.

    `new` and `old` are the revisions as metrics name them; "": not told. `first`: there is no old one. `ends`: what
    ECS does by itself, and when; "": not told.
    """

    deployment: str
    hook: str
    stage: str
    weight: float | None
    new: str
    old: str
    first: bool = False
    ends: str = ""

    @property
    def moved(self) -> bool:
        """Whether the new revision may have devices. A weight is a snapshot, and may be late or missing."""
        if self.stage in _BEFORE:
            return bool(self.weight)
        return self.stage == _AFTER or self.weight is None or self.weight > 0


class Decision(NamedTuple):
    """What to do, and why, in one paragraph."""

    action: Action
    reason: str


def decide(pause: Pause, new: Readings, old: Readings, bounds: Bounds, earlier: Readings | None = None) -> Decision:
    """Judge a deployment that waits. `new` and `old` told this in the same minutes, `earlier` the old one in a longer
    time: at the last hook few devices may be left on it."""
    share = "an unknown part" if pause.weight is None else f"{pause.weight:.1%}"
    who = f"revision {pause.new or '?'} against {pause.old or '?'} at {pause.stage}, {share} of new connections"
    if not pause.moved:
        return Decision(Action.CONTINUE, f"{who}: no traffic has moved yet, so there is nothing to judge.")
    if pause.first:
        return Decision(Action.CONTINUE, f"{who}: it is the first one, so there is nothing to compare it with.")
    if not pause.new or not pause.old:
        return Decision(Action.WAIT, f"{who}: Amazon ECS does not tell the task definition of each revision.")
    if pause.new == pause.old:
        # What both told is one figure: it is compared with the time before.
        who, old = f"{who}, which cannot be told apart and are judged together", Readings()
    recent = list(new.devices)[-bounds.minutes :]
    enough = [count for count in recent if count >= bounds.min_devices]
    if len(enough) < bounds.minutes:
        lost = _lost(new, old, earlier or old, bounds)
        if lost:
            return Decision(Action.ROLLBACK, f"{who}: rolled back, for it does not keep its devices: {lost}.")
        most = max(recent, default=0.0)
        text = (
            f"{who}: not enough devices yet; {bounds.min_devices:,} are to be on it for {bounds.minutes} minutes, and "
            f"there were so many in {len(enough)} (at most {most:,.0f})."
        )
        if pause.ends:
            text += f" The hook ends with {pause.ends}; `heiwa drain plan --strategy` says how many a step brings."
        if not new.devices:
            text += " It told nothing: telemetry.emf is to be on, and telemetry.revision empty."
        return Decision(Action.WAIT, text)
    lines = list(_compared(new, old, earlier or old, bounds))
    bad = [line.text for line in lines if not line.good]
    said = "; ".join(bad or [line.text for line in lines])
    many = f"{sum(recent) / len(recent):,.0f} devices for {bounds.minutes} minutes"
    silent = not old.device_hours and not (earlier or old).device_hours
    if bad and silent and all(line.good or line.relative for line in lines):
        return Decision(
            Action.WAIT, f"{who}: the old one told nothing, and so nobody knows whether it is better: {said}."
        )
    if bad:
        return Decision(Action.ROLLBACK, f"{who}: rolled back after {many}: {said}.")
    return Decision(Action.CONTINUE, f"{who}: within bounds with {many}: {said}.")


def _lost(new: Readings, old: Readings, earlier: Readings, bounds: Bounds) -> str:
    """Why the devices that came to a revision did not stay; "": too few came, most of them stayed, or nobody knows.

    A handshake may be refused for the fault of a device, and most connections that end are ended by the network: only
    the old revision tells how many are usual.
    """
    known = [one for one in (old, earlier) if one.handshakes]
    if new.handshakes < bounds.min_devices or not known:
        return ""
    for name, of in (("refused or ended by our fault", "our_fault"), ("refused or ended unplanned", "closed")):
        share, *usual = [min(1.0, (one.refused + getattr(one, of)) / one.handshakes) for one in (new, *known)]
        if share > max(_MOST, bounds.ratio * max(usual)):
            return f"of {new.handshakes:,.0f} handshakes {share:.0%} were {name} (old {max(usual):.0%})"
    return ""


class _Compared(NamedTuple):
    """`relative`: a good revision may be above the floor, too, and only the old one tells what is usual."""

    good: bool
    text: str
    relative: bool = False


def _compared(new: Readings, old: Readings, earlier: Readings, bounds: Bounds) -> Iterator[_Compared]:
    yield _acks(new, old, earlier, bounds)
    for name, of, by_handshake, relative in (
        ("closes by our fault", "our_fault", True, False),
        ("refused handshakes", "refused", True, False),
        ("unplanned closes", "closed", True, True),
        ("refused events", "events_refused", False, True),
    ):
        count, other, before = (getattr(one, of) for one in (new, old, earlier))
        rate = _rate(count, new)
        # Few events of few devices are no rate: one close of the last device would excuse anything.
        known = max(_rate(before, earlier), _rate(other, old) if other >= FEW_EVENTS else 0.0)
        most = max(bounds.rate_floor, bounds.ratio * known)
        usual = by_handshake and _usual_by_handshake(of, new, (old, earlier), bounds)
        good = count < FEW_EVENTS or rate <= most or usual
        text = f"{name} {rate:.3g} a device and hour (old {known:.3g}, at most {most:.3g}, {count:,.0f} in all)"
        yield _Compared(good, text, relative)


def _usual_by_handshake(of: str, new: Readings, others: Sequence[Readings], bounds: Bounds) -> bool:
    """Whether it is as usual for the handshakes that came: few devices that come again and again make most of it.

    Handshakes come by the weight of a revision, and connections stay: early in a canary it has several times as many
    handshakes a device as the old one.
    """
    known = [getattr(one, of) / one.handshakes for one in others if one.opened]
    if not known or not new.handshakes:
        return False
    return bool(getattr(new, of) / new.handshakes <= bounds.ratio * max(known))


def _acks(new: Readings, old: Readings, earlier: Readings, bounds: Bounds) -> _Compared:
    if not new.ack_p99_s:
        usual = _rate(earlier.acked, earlier)
        text = f"no acks were measured (old {usual:.3g} a device and hour)"
        return _Compared(bool(new.acked) or usual * new.device_hours < MANY_ACKS, text)
    found = _median(new.ack_p99_s)
    known = max(_median(old.ack_p99_s), _median(earlier.ack_p99_s))
    most = max(bounds.ack_floor_s, bounds.ratio * known)
    text = f"ack p99 {found * 1000:,.0f} ms (old {known * 1000:,.0f} ms, at most {most * 1000:,.0f} ms)"
    return _Compared(found <= most, text, relative=True)


def _rate(count: float, of: Readings) -> float:
    return count / of.device_hours if of.device_hours else 0.0


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
