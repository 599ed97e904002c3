"""What a device is to do, and where it reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gateway.device.answering import Appliance
from gateway.device.latency import Latency
from gateway.device.outbox import Outbox
from gateway.device.track import Leg


class Token(NamedTuple):
    """A JWT. `expires_s` in seconds since the Unix epoch; None: unknown, for the device does not look into it."""

    text: str
    expires_s: float | None = None


class Observer(Protocol):
    """Told what a person wants to read."""

    def note(self, text: str) -> None:
        """Something happened, one line; a few for every connection at most."""

    def state(self, text: str) -> None:
        """What the device is doing from now on, in a word or two."""


@dataclass(frozen=True)
class Plan:
    """What a device is to do. Times in seconds.

    `count` events or `duration_s`, whichever ends first; None: as long as `legs` last. `speed` 0: no pauses, and
    measuring waits while the memory is full instead of dropping. `mint` None: the token cannot be renewed.
    `appliance` carries out commands; None: each is answered with an error.
    """

    url: str
    legs: Iterator[Leg]
    id_prefix: str
    token: Token
    mint: Callable[[], Token] | None = None
    speed: float = 1.0
    original_times: bool = False
    count: int | None = None
    duration_s: float | None = None
    capacity: int = 10_000
    window: int = 2_000
    resend_after_s: float = 30.0
    open_timeout_s: float = 10.0
    finish_timeout_s: float = 5.0
    appliance: Appliance | None = None


@dataclass
class Record:
    """What happened so far; may be read at any time.

    `answered`: the server answered at least one handshake, be it with a refusal. `stopped_by`: why the device gave up
    for good; None: it did not.
    """

    outbox: Outbox
    latency: Latency = field(default_factory=Latency)
    durabilities: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    measured: int = 0
    commands: int = 0
    connects: int = 0
    answered: bool = False
    stopped_by: str | None = None
