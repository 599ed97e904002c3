"""Whether a deployment that waits at a pause hook may go on: the new revision against the old one. Pure.

A share of devices says nothing: five percent of twenty devices are one. So a *number* of devices must have been on the
new revision, for a time, before anything is decided; then its figures must be near those of the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

# One broken device in a hundred is no broken revision: a rate counts from so many events on.
FEW_EVENTS = 5


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
    minutes, closes that were the service's fault, refused handshakes, and all closes that nobody planned."""

    devices: Sequence[float] = ()
    ack_p99_s: Sequence[float] = ()
    our_fault: float = 0.0
    refused: float = 0.0
    closed: float = 0.0

    @property
    def device_hours(self) -> float:
        return sum(self.devices) / 60


class Pause(Struct, frozen=True):
    """A deployment that waits. `weight`: the part of new connections that the new revision has, 0 to 1.

    `new` and `old` are the revisions as metrics name them.
    """

    deployment: str
    hook: str
    stage: str
    weight: float
    new: str
    old: str


class Decision(NamedTuple):
    """What to do, and why, in one paragraph."""

    action: Action
    reason: str


def decide(pause: Pause, new: Readings, old: Readings, bounds: Bounds) -> Decision:
    """Judge a deployment that waits."""
    who = f"revision {pause.new} against {pause.old} at {pause.stage}, {pause.weight:.1%} of new connections"
    if pause.weight <= 0:
        return Decision(Action.CONTINUE, f"{who}: no traffic has moved yet, so there is nothing to judge.")
    if not pause.old:
        return Decision(Action.CONTINUE, f"{who}: it is the first one, so there is nothing to compare it with.")
    recent = list(new.devices)[-bounds.minutes :]
    enough = [count for count in recent if count >= bounds.min_devices]
    if len(enough) < bounds.minutes:
        most = max(recent, default=0.0)
        text = (
            f"{who}: not enough devices yet; {bounds.min_devices:,} are to be on it for {bounds.minutes} minutes, and "
            f"there were so many in {len(enough)} (at most {most:,.0f})."
        )
        return Decision(Action.WAIT, text)
    lines = list(_compared(new, old, bounds))
    bad = [line.text for line in lines if not line.good]
    said = "; ".join(bad or [line.text for line in lines])
    many = f"{sum(recent) / len(recent):,.0f} devices for {bounds.minutes} minutes"
    if bad:
        return Decision(Action.ROLLBACK, f"{who}: rolled back after {many}: {said}.")
    return Decision(Action.CONTINUE, f"{who}: within bounds with {many}: {said}.")


class _Compared(NamedTuple):
    good: bool
    text: str


def _compared(new: Readings, old: Readings, bounds: Bounds) -> Iterator[_Compared]:
    yield _acks(new, old, bounds)
    for name, count, other in (
        ("closes by our fault", new.our_fault, old.our_fault),
        ("refused handshakes", new.refused, old.refused),
        ("unplanned closes", new.closed, old.closed),
    ):
        rate = count / new.device_hours if new.device_hours else 0.0
        known = other / old.device_hours if old.device_hours else 0.0
        most = max(bounds.rate_floor, bounds.ratio * known)
        good = count < FEW_EVENTS or rate <= most
        text = f"{name} {rate:.3g} a device and hour (old {known:.3g}, at most {most:.3g}, {count:,.0f} in all)"
        yield _Compared(good, text)


def _acks(new: Readings, old: Readings, bounds: Bounds) -> _Compared:
    if not new.ack_p99_s:
        return _Compared(True, "no acks were measured")
    found = sorted(new.ack_p99_s)[len(new.ack_p99_s) // 2]
    known = sorted(old.ack_p99_s)[len(old.ack_p99_s) // 2] if old.ack_p99_s else 0.0
    most = max(bounds.ack_floor_s, bounds.ratio * known)
    text = f"ack p99 {found * 1000:,.0f} ms (old {known * 1000:,.0f} ms, at most {most * 1000:,.0f} ms)"
    return _Compared(found <= most, text)
