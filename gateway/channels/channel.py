"""Channels: named streams of events that clients subscribe to. What kinds there are, and how names are read. Pure.

`device:dog-1` is the channel of the family `device` about the subject `dog-1`; `drain` is a family without subjects.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

MAX_NAME_BYTES = 256


class Kind(StrEnum):
    """What a channel promises; there is no third kind.

    LATEST: the newest state wins; a slow subscriber misses steps in between, never the last one; a snapshot comes
    first. LOG: every event, in order, once, from any offset that is still kept.
    """

    LATEST = "latest"
    LOG = "log"


class Family(NamedTuple):
    """Channels of one sort. `scope`: what a token needs to subscribe. `named`: each is about one subject of an account;
    else there is one for the whole fleet, or (`by_account`) one an account."""

    name: str
    kind: Kind
    scope: str
    named: bool = True
    by_account: bool = True

    def subject_of(self, name: str) -> str | None:
        """What the channel `name` of this family is about, "" where the family has no subjects; None: no such name."""
        _, separator, subject = name.partition(":")
        return subject if bool(subject) == bool(separator) == self.named else None


DEVICE = Family("device", Kind.LATEST, "location:read")
DRAIN = Family("drain", Kind.LATEST, "admin", named=False, by_account=False)


class Channel(Struct, frozen=True, gc=False):
    """Which channel, everywhere: `account` is "" for those of the whole fleet."""

    account: str
    name: str

    @property
    def family(self) -> str:
        """The name of its family."""
        return self.name.partition(":")[0]

    @property
    def subject(self) -> str:
        """What it is about; "" where the family has no subjects."""
        return self.name.partition(":")[2]


def device_channel(account: str, device: str) -> Channel:
    """Where a device is, and whether it is connected."""
    return Channel(account, f"device:{device}")
