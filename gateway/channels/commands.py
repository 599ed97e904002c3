"""Commands to devices: what one is, what can become of it, and which of them are under way. Pure.

A command has a deadline and one result. Nothing waits for a device that is away: a lamp that is switched on an hour
late is worse than an error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from msgspec import Meta, Struct

MAX_IN_FLIGHT = 10_000

T = TypeVar("T")


class Outcome(StrEnum):
    """What became of a command; the label `outcome` of `heiwa_commands_total`."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    OFFLINE = "offline"
    DEAF = "deaf"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    GONE = "gone"
    GONE_UNSENT = "gone_unsent"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"


MEANINGS: dict[Outcome, str] = {
    Outcome.DONE: "the device carried it out",
    Outcome.FAILED: "the device answered an error of its own",
    Outcome.UNKNOWN: "no such device of the account is known",
    Outcome.OFFLINE: "the device is not connected",
    Outcome.DEAF: "its token lacks the scope command:receive",
    Outcome.TOO_LARGE: "it is larger than the device's class can take",
    Outcome.BUSY: "as many commands as may be are under way",
    Outcome.GONE: "the connection ended before the result: it may have been carried out",
    Outcome.GONE_UNSENT: "the device was about to leave, and could not be sent it by the deadline",
    Outcome.UNREACHABLE: "the device is not connected here, and other gateways cannot be reached",
    Outcome.TIMED_OUT: "no result by the deadline: it may have been carried out",
}


class DeviceError(Struct, frozen=True, gc=False):
    """What went wrong on the device, in its own words."""

    code: Annotated[str, Meta(min_length=1, max_length=64)]
    message: Annotated[str, Meta(max_length=500)] = ""


class Command(NamedTuple):
    """What a device is to do. `idempotent`: carried out twice it does no harm, so it may be sent again when it is not
    known whether it was."""

    account: str
    device: str
    name: str
    args: Any
    idempotent: bool = False


class Progress(NamedTuple):
    """What the device last reported. None: it did not say."""

    percent: float | None
    message: str | None


class Settled(NamedTuple):
    """How a command ended. `value` is the device's answer, its error, or with `OFFLINE` how it left (DisconnectInfo);
    `detail` is what a person should know."""

    outcome: Outcome
    value: Any = None
    detail: str = ""
    progress: Progress | None = None

    @property
    def text(self) -> str:
        """What happened, for a person."""
        parts = [MEANINGS[self.outcome], self.detail]
        if isinstance(self.value, DeviceError):
            parts += [self.value.code, self.value.message]
        return ": ".join(filter(None, parts))


class _Entry(Generic[T]):
    __slots__ = ("progress", "slot", "waiter")

    def __init__(self, slot: int, waiter: T) -> None:
        self.slot = slot
        self.waiter = waiter
        self.progress: Progress | None = None


class InFlight(Generic[T]):
    """Commands that were sent and have no result, each with the `waiter` that is told.

    A device settles its own commands only. `per_device` bounds those of one connection; 0: none may be sent.
    """

    def __init__(self, per_device: int, maximum: int = MAX_IN_FLIGHT) -> None:
        self._per_device = per_device
        self._maximum = maximum
        self._entries: dict[str, _Entry[T]] = {}
        self._by_slot: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def has_room(self, slot: int) -> bool:
        """Whether one more may be sent to this connection."""
        return len(self._entries) < self._maximum and len(self._by_slot.get(slot, ())) < self._per_device

    def add(self, command: str, slot: int, waiter: T) -> None:
        """It is being sent to the connection in `slot`."""
        self._entries[command] = _Entry(slot, waiter)
        self._by_slot.setdefault(slot, set()).add(command)

    def report(self, command: str, slot: int, progress: Progress) -> T | None:
        """The device says how far it is; None: the command is not its own, or settled."""
        entry = self._own(command, slot)
        if entry is None:
            return None
        entry.progress = progress
        return entry.waiter

    def settle(self, command: str, slot: int) -> T | None:
        """The device gave the result; None: the command is not its own, or settled already."""
        return None if self._own(command, slot) is None else self._forget(command).waiter

    def end(self, command: str) -> tuple[T, Progress | None] | None:
        """No result is waited for any more: who did, and the last report; None: it is settled."""
        if command not in self._entries:
            return None
        entry = self._forget(command)
        return entry.waiter, entry.progress

    def gone(self, slot: int) -> list[T]:
        """The connection ended: those who wait for its results."""
        return [self._forget(command).waiter for command in list(self._by_slot.get(slot, ()))]

    def _own(self, command: str, slot: int) -> _Entry[T] | None:
        entry = self._entries.get(command)
        return entry if entry is not None and entry.slot == slot else None

    def _forget(self, command: str) -> _Entry[T]:
        entry = self._entries.pop(command)
        others = self._by_slot[entry.slot]
        others.discard(command)
        if not others:
            del self._by_slot[entry.slot]
        return entry
