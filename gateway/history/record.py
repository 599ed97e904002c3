"""Connections of a device, as they are remembered: when it came, when and how it left. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from gateway.wire.close_codes import Fault

# The newest connections of a device that are kept.
MAX_KEPT = 50


class Began(NamedTuple):
    """A connection was opened, in the numbers that it is known by. The address is IPv6, IPv4 as mapped into it."""

    account: str
    device: str
    id_high: int
    id_low: int
    address_high: int
    address_low: int
    device_class: str


class Ended(NamedTuple):
    """It ended. `drain`: who began the drain that sent it away, and when (ms); None: none did."""

    account: str
    device: str
    id_high: int
    id_low: int
    time_ms: int
    code: int
    reason: str
    fault: str
    drain: tuple[str, int] | None


Happening = Began | Ended


class Drained(Struct, frozen=True, gc=False):
    """The drain that sent a device away: `origin` is who began it (target_health, api, sigusr1 or sigterm)."""

    origin: str
    began_ms: int


class PastConnection(Struct, frozen=True, gc=False):
    """One connection of a device, open or ended. All times are ms since the Unix epoch.

    `gateway` held it. What is null of the last five is not known: it is open, or its gateway ended without a word.
    `code` is the close code (1006: none was seen), `fault` whose doing the end was. `drain` null: none sent it away.
    """

    connection: str
    gateway: str
    address: str
    device_class: str
    connected_ms: int
    disconnected_ms: int | None = None
    code: int | None = None
    reason: str | None = None
    fault: Fault | None = None
    drain: Drained | None = None


def newest(records: Iterable[PastConnection]) -> list[PastConnection]:
    """What several stores know of one device: each connection once, the newest first, those that are kept."""
    by_name: dict[str, PastConnection] = {}
    for record in records:
        known = by_name.get(record.connection)
        if known is None or known.disconnected_ms is None:
            by_name[record.connection] = record
    ordered = sorted(by_name.values(), key=lambda record: (record.connected_ms, record.connection), reverse=True)
    return ordered[:MAX_KEPT]
