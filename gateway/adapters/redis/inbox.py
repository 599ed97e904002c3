"""The inbox of one gateway: a channel that it alone reads, and a beat of its own that shows that it is read.

A subscription is told by its confirmation. A second one means that the client subscribed anew by itself, and an unasked
end of a sharded one that its slot went elsewhere: in both cases something may be lost, and a new connection begins.
A server that hangs is told by nothing but a beat that does not come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.telemetry.log import Log

BEAT_EVERY_S = 0.5
BEAT_LATE_S = 2.0
_BEAT, _ENVELOPE = b"\x00", b"\x01"
_CONFIRMED = ("subscribe", "ssubscribe")
_MESSAGES = ("message", "smessage")

_log = Log("broker")


class Inbox:
    """Belongs to one connection. `receive` is called with each envelope."""

    def __init__(self, client: Redis, channel: str, receive: Callable[[bytes], None]) -> None:
        self._pubsub: PubSub = client.pubsub(ignore_subscribe_messages=False)
        self._channel = channel
        self._receive = receive
        self._beat = asyncio.Event()
        self.sharded = True

    async def open(self) -> None:
        """Subscribe, sharded where the server can. Raises one of access.LOST."""
        try:
            await self._subscribe(sharded=True)
        except ResponseError:
            # Redis before 7. What a user may not do raises in the plain way, too.
            self.sharded = False
            await self._subscribe(sharded=False)

    async def _subscribe(self, *, sharded: bool) -> None:
        await (self._pubsub.ssubscribe if sharded else self._pubsub.subscribe)(self._channel)
        message = await self._pubsub.get_message(timeout=BEAT_LATE_S)
        if message is None:
            raise RedisTimeoutError("the subscription was not confirmed")
        if message["type"] not in _CONFIRMED:
            raise RedisConnectionError(f"{message['type']} instead of a confirmation")

    async def run(self) -> None:
        """Read until cancelled. Raises one of access.LOST."""
        while True:
            message = await self._pubsub.get_message(timeout=None)
            if message is None:
                continue
            kind, data = message["type"], message["data"]
            if kind not in _MESSAGES:
                raise RedisConnectionError(f"the subscription was interrupted ({kind})")
            if data[:1] == _ENVELOPE:
                self._take(data[1:])
            elif data == _BEAT:
                self._beat.set()

    def _take(self, envelope: bytes) -> None:
        try:
            self._receive(envelope)
        except Exception as error:
            # One bad envelope must not end the way of all others.
            _log.error("envelope_failed", exc_info=error)

    def message(self, channel: str, envelope: bytes | None = None) -> tuple[str, str, bytes]:
        """The command that puts an envelope into the inbox of a channel; None: a beat."""
        data = _BEAT if envelope is None else _ENVELOPE + envelope
        return ("SPUBLISH" if self.sharded else "PUBLISH", channel, data)

    async def heard(self) -> None:
        """Wait for the next beat. Raises redis' TimeoutError."""
        try:
            async with asyncio.timeout(BEAT_LATE_S):
                await self._beat.wait()
        except TimeoutError as error:
            raise RedisTimeoutError("the inbox is not served") from error
        self._beat.clear()

    async def close(self) -> None:
        """Give the connection back."""
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]
