"""The directory: which gateway holds which device, and which of two connections of one device is the newer. Pure.

A gateway is named by its incarnation: one that starts again has another name. What names a gateway whose lease has run
out counts for nothing.

Order: an entry has a number from the directory's own counter, which runs on the directory's clock (µs) and never
backwards. A connection that is announced at once takes the next number; one that is announced later, as after an
outage, the number of the moment when it was opened. So clocks of gateways are never compared.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from gateway.connections.info import DisconnectInfo

LEASE_S = 15.0
# How long an entry of a device that left, or of a connection that nobody announces again, is kept.
KEPT_S = 86_400
# A connection that is announced so soon after it was opened takes the next number, else one from the past. A device
# that came to another gateway meanwhile would take longer.
AT_ONCE_MS = 250


class Duplicates(StrEnum):
    """What becomes of a second connection of a device; the setting `connections.duplicates`."""

    REPLACE = "replace"
    REJECT = "reject"
    ALLOW = "allow"


class Opened(NamedTuple):
    """A device is connected to the gateway that writes this.

    `age_ms`: for how long. `order`: the number that it was given before; 0: none yet.
    """

    account: str
    device: str
    connection: str
    age_ms: int
    order: int = 0


class Closed(NamedTuple):
    """That connection ended. `last` None: the gateway only found out that it has none of this name."""

    account: str
    device: str
    connection: str
    last: DisconnectInfo | None


Change = Opened | Closed


class Holder(NamedTuple):
    """A connection, and the gateway that holds it."""

    gateway: str
    connection: str


class Entry(NamedTuple):
    """What is known of a device. `holder` None: it is offline; `last`: how its last connection ended, if known.

    `order` is the number of its newest connection, which may have ended; 0: unknown.
    """

    holder: Holder | None
    last: DisconnectInfo | None
    order: int = 0


class Standing(NamedTuple):
    """What a change led to. For `Closed` all but the first is empty.

    `order`: the number of the connection. `rival`: the device's other living connection, if there is one. `wins`: this
    one is the one to keep. `watchers`: gateways whose clients watch the device.
    """

    order: int = 0
    rival: Holder | None = None
    wins: bool = True
    watchers: tuple[str, ...] = ()


def order_of(change: Opened, counter: int) -> int:
    """The number of a connection that is announced while the counter stands at `counter`."""
    if change.order:
        return change.order
    return counter if change.age_ms < AT_ONCE_MS else counter - change.age_ms * 1000


def wins(order: int, rival: int, rule: Duplicates) -> bool:
    """Whether a connection is the one to keep beside the rival's number: the newer, or with `reject` the older."""
    return order < rival if rule is Duplicates.REJECT else order >= rival
