"""The figures of all gateways during a deploy, as the channel `drain` tells them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins

from gateway.drain.states import State

# A frame has to fit what a client of no class reads (16 KiB): of a larger fleet those that serve are only counted.
MAX_LISTED = 60
_LEAVE = frozenset({State.DRAIN_PENDING.value, State.DRAINING.value, State.TERMINATING.value})


class Figures(Struct, frozen=True, omit_defaults=True):
    """Of one gateway. All but the first three: of the drain that goes on, or has ended."""

    state: str
    connections: int
    remaining: int
    origin: str = ""
    sent_away: int = 0
    seconds_left: float = 0.0
    rate_target_per_s: float = 0.0
    rate_actual_per_s: int = 0
    overrun: int = 0


class Frame(Struct, frozen=True):
    """`number` grows with each frame of one gateway."""

    number: int
    figures: Figures


class Frames(Struct, frozen=True):
    """By the gateways' names."""

    gateways: dict[str, Frame]


def merged(known: Frames | None, other: Frames) -> Frames:
    """Of each gateway the newest frame; `known` itself when `other` adds nothing."""
    if known is None:
        return other
    newer = {
        name: frame
        for name, frame in other.gateways.items()
        if name not in known.gateways or frame.number > known.gateways[name].number
    }
    return Frames({**known.gateways, **newer}) if newer else known


def shown(gateways: Mapping[str, Figures]) -> dict[str, Any]:
    """The data of an event: sums, and the gateways by name; those that leave come first where not all are listed."""
    names = sorted(gateways, key=lambda name: (not leaves(gateways[name].state), name))[:MAX_LISTED]
    return {
        "gateways": len(gateways),
        "leaving": sum(leaves(figures.state) for figures in gateways.values()),
        "connections": sum(figures.connections for figures in gateways.values()),
        "remaining": sum(figures.remaining for figures in gateways.values() if leaves(figures.state)),
        "sent_away": sum(figures.sent_away for figures in gateways.values()),
        "rate_per_s": sum(figures.rate_actual_per_s for figures in gateways.values()),
        "listed": [{"gateway": name, **to_builtins(gateways[name])} for name in sorted(names)],
    }


def leaves(state: str) -> bool:
    """Whether a gateway in this state still sends connections away, or is about to."""
    return state in _LEAVE
