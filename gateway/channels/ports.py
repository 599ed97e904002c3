"""How gateways find and reach each other: what commands and channels over several of them need.

The account is an argument of everything that concerns a device. Every call may raise BrokerDownError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from gateway.channels.directory import Change, Duplicates, Entry, Standing


class Broker(Protocol):
    """Carries envelopes from gateway to gateway; each has one inbox. At most once, and nothing is kept.

    `gateway` is our own name. `problem` says why the broker is away; "": it is there.
    """

    @property
    def gateway(self) -> str: ...

    @property
    def problem(self) -> str: ...

    def listen(self, receive: Callable[[bytes], None], returned: Callable[[], None]) -> None:
        """Say who takes what comes into our inbox, and who is told that it is open, at first and after each loss.

        Whatever came between a loss and the return is lost.
        """
        ...

    async def post(self, gateway: str, envelope: bytes) -> bool:
        """Put it into a gateway's inbox. False: nobody reads that. True is no promise that it arrives.

        Cancelled, it may have left.
        """
        ...

    async def run(self) -> None:
        """Hold the way to the other gateways open until cancelled."""
        ...

    async def close(self) -> None:
        """Give everything back. Harmless when called again."""
        ...


class Directory(Protocol):
    """Which gateway holds which device, and who watches it (directory.py). All gateways see one directory."""

    async def write(self, changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
        """Carry out changes of our own connections, in order; one answer for each.

        Their ages are those of this moment, however long the server takes to carry them out.
        """
        ...

    async def find(self, account: str, device: str) -> Entry | None:
        """What is known of a device; None: nothing."""
        ...

    async def renew(self) -> bool:
        """Begin our lease, or prolong it. Without one, what names us counts for nothing.

        False: it did not know us; what it knew of us may be gone.
        """
        ...

    async def leave(self) -> None:
        """End our lease."""
        ...

    async def gateways(self) -> list[str]:
        """The living gateways, ours among them."""
        ...

    async def watch(self, account: str, channel: str) -> None:
        """Clients of ours watch a channel."""
        ...

    async def unwatch(self, account: str, channel: str) -> None:
        """They do no longer."""
        ...

    async def watchers(self, account: str, channel: str) -> list[str]:
        """The living gateways whose clients watch it."""
        ...


class Claimed(Enum):
    """What is known of an attempt under an idempotency key."""

    NEW = "it is the caller's"
    RUNNING = "another one is under way"
    DONE = "another one is over"
    OTHER = "the key stands for another request"


class Claim(NamedTuple):
    """`answer`: what it led to, when it is over."""

    claimed: Claimed
    answer: bytes = b""


class Attempts(Protocol):
    """What became of requests by their idempotency keys, for a while. `key` holds the account, sender and device."""

    async def claim(self, key: str, request: bytes, ttl_ms: int) -> Claim:
        """Take the key for a request, unless it is taken; what is known of it otherwise. Kept for `ttl_ms`."""
        ...

    async def settle(self, key: str, request: bytes, answer: bytes, ttl_ms: int) -> None:
        """What the request led to, to be kept for `ttl_ms` from here."""
        ...

    async def release(self, key: str) -> None:
        """It led to nothing: the next one may take the key."""
        ...
