"""What gateways say to each other: envelopes of JSON with a version, an account, and one of these contents. Pure.

JSON, since arguments and values of commands are JSON of peers, with numbers of any length. A content of a kind that
this version does not know is answered so: gateways of two versions run beside each other in every deploy.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from gateway.channels.commands import DeviceError, Outcome, Progress, Settled
from gateway.connections.info import ConnectionInfo, DisconnectInfo
from gateway.history.record import PastConnection

VERSION = 1
# The largest message of a device with room for what is around it. What is larger was not made by a gateway of ours.
MAX_BYTES = 32 << 20


class Content(Struct, frozen=True):
    """Base of all of them: what may be in an envelope."""


class Order(Content, frozen=True):
    """Have a device carry out a command. `connection`: the one that the directory names; another one will do.

    Answered by `Carried`.
    """

    device: str
    connection: str
    name: str
    args: Any
    deadline_ms: int
    # Under which name the gateway `back` wants to be told what the device reports; "": it does not.
    watch: str = ""
    back: str = ""


class Reported(Content, frozen=True):
    """How far a device is that carries out an order of yours. Not answered."""

    watch: str
    percent: float | None = None
    message: str | None = None


class Carried(Content, frozen=True):
    """What became of a command, as `commands.Settled` says it."""

    outcome: str
    value: Any = None
    detail: str = ""
    percent: float | None = None
    message: str | None = None
    reported: bool = False


class Describe(Content, frozen=True):
    """What do you know of a device? Answered by `Described`."""

    device: str


class Described(Content, frozen=True):
    """Each is None when it is not known there."""

    connection: ConnectionInfo | None = None
    last_disconnect: DisconnectInfo | None = None
    latest: dict[str, Any] | None = None


class Listing(Content, frozen=True):
    """Which devices are connected to you, at most `limit`, by id, behind `after`? Answered by `Listed`."""

    after: str | None
    limit: int


class Listed(Content, frozen=True):
    """By id. `next`: behind which there are more; None: there are none."""

    devices: list[ConnectionInfo]
    next: str | None = None


class Dismiss(Content, frozen=True):
    """Ask the connections of a device to leave. Answered by `Dismissed`."""

    device: str
    code: int
    reason: str


class Dismissed(Content, frozen=True):
    """Whether there was one."""

    done: bool


class Remember(Content, frozen=True):
    """Which past connections of a device do you remember? Answered by `Remembered`."""

    device: str


class Remembered(Content, frozen=True):
    """The newest first."""

    connections: list[PastConnection]


class Displaced(Content, frozen=True):
    """A newer connection of this device is elsewhere: close this one. Not answered."""

    device: str
    connection: str


class Watched(Content, frozen=True):
    """Clients of this gateway watch a channel of a device of yours, or do no longer. Not answered."""

    channel: str
    gateway: str
    watched: bool


class Changed(Content, frozen=True):
    """A channel of the kind latest has changed. Not answered."""

    channel: str
    state: Any


class Hinted(Content, frozen=True):
    """There is something new in a log. Not answered."""

    channel: str


class Unknown(Content, frozen=True):
    """The answer to a content of a kind that is not known."""


KINDS: dict[str, type[Content]] = {kind.__name__: kind for kind in Content.__subclasses__()}


def carried(settled: Settled) -> Carried:
    """How a command ended, to be sent or kept."""
    progress = settled.progress or Progress(None, None)
    reported = settled.progress is not None
    return Carried(settled.outcome.value, settled.value, settled.detail, *progress, reported=reported)


def settled_of(carried: Carried) -> Settled:
    """The same back. Raises ValueError for an outcome that is not known: a newer version of this program made it."""
    outcome, value = Outcome(carried.outcome), carried.value
    if outcome is Outcome.FAILED:
        value = msgspec.convert(value, DeviceError)
    progress = Progress(carried.percent, carried.message) if carried.reported else None
    return Settled(outcome, value, carried.detail, progress)


class Envelope(Struct, frozen=True, omit_defaults=True):
    """`to` and `sender` are gateways. `id`: an answer is wanted that names it, within `wait_ms`; `re`: this is one."""

    v: int
    to: str
    sender: str
    account: str
    kind: str
    content: Raw
    id: str = ""
    re: str = ""
    wait_ms: int = 0


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Envelope).decode


def seal(
    to: str, sender: str, account: str, content: Content, *, id: str = "", re: str = "", wait_ms: int = 0
) -> bytes:
    """An envelope in bytes."""
    kind, inside = type(content).__name__, Raw(_encode(content))
    return _encode(Envelope(VERSION, to, sender, account, kind, inside, id, re, wait_ms))


def unseal(data: bytes, to: str) -> Envelope:
    """An envelope that is meant for `to`. Raises msgspec.DecodeError."""
    if len(data) > MAX_BYTES:
        raise msgspec.DecodeError(f"an envelope of {len(data)} bytes")
    envelope = _decode(data)
    if envelope.v != VERSION or envelope.to != to:
        raise msgspec.ValidationError(f"version {envelope.v}, for {envelope.to}")
    return envelope


def content_of(envelope: Envelope) -> Content:
    """What is in it; `Unknown` for a kind that is not known. Raises msgspec.DecodeError."""
    kind = KINDS.get(envelope.kind)
    return Unknown() if kind is None else msgspec.json.decode(envelope.content, type=kind)
