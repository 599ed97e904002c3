"""What can become of a location event, and where that is told."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from gateway.locations.event import LocationEvent


class Durability(StrEnum):
    """Where an acknowledged event is safe; the value is what the `ack` on the wire says."""

    INDEXED = "indexed"
    FIREHOSE = "firehose"
    SPOOLED = "spooled"
    DEAD_LETTER = "dead_letter"


class Refusal(NamedTuple):
    """Events that are not stored, and why. `retry_after_ms` None: sending them again is useless."""

    code: str
    message: str
    retry_after_ms: int | None


class Submitted(NamedTuple):
    """The answer to a submission. `refusal` None: the events were taken, and their outcomes follow.

    `pause`: read no more from this sender until `Outcomes.resume`.
    """

    refusal: Refusal | None = None
    pause: bool = False


class Outcomes(Protocol):
    """Where senders are told what became of their events.

    `sender` is the object that was given to `submit`, one a connection or HTTP request. The methods are called on the
    event loop's thread and must neither block nor raise: a sender for which one raises is logged and treated as gone.
    """

    def acknowledge(self, sender: Any, events: Sequence[LocationEvent], durability: Durability) -> None:
        """These are durable. Called at most once a flush and durability, with everything of this sender merged."""

    def refuse(self, sender: Any, ids: Sequence[str], refusal: Refusal) -> None:
        """These are not stored."""

    def resume(self, sender: Any) -> None:
        """Pressure fell. Called once after `submit` asked for a pause."""


class Rejection(Struct, frozen=True, gc=False):
    """Why a store did not take one item. `poison`: it never will, so the item belongs in the dead letters.

    `code`: its sender is refused with this one of `settlement.MESSAGES`, and no other store takes the item. Empty: the
    item may go elsewhere. `overflow`: the index is only busy or away, so another way to it may take the item.
    """

    reason: str
    poison: bool = False
    code: str = ""
    overflow: bool = False
