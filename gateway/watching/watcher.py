"""Watches one channel, and goes on by itself after every end: after its last offset (log), or with a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Protocol

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateway.device.dialing import Refused, Unreached, dial
from gateway.device.reconnect import Return, Stop, after_close, after_goaway, after_refusal, backoff_s
from gateway.errors import RefusedError, UnreachableError
from gateway.watching.messages import Event, Goaway, Problem, Subscribed, decode, encode_subscribe

OPEN_TIMEOUT_S = 10.0
# What passes by itself; any other refusal of the channel is final.
_PASSING = frozenset({"unavailable", "overloaded"})
# Said of events that were left out; the others follow.
_GAPS = frozenset({"offset_too_old", "offset_too_new", "too_large"})


class Viewer(Protocol):
    """Shown what happens in the channel."""

    def snapshot(self, subscribed: Subscribed) -> None:
        """The state as of now; again after each return to a channel without offsets."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def note(self, text: str) -> None:
        """What happens to the connection, one line."""


class Watcher:
    """`run` once. `mint` makes a token for each connection; None: `token` is all there is."""

    def __init__(
        self, url: str, channel: str, token: str, mint: Callable[[], str] | None, viewer: Viewer, random: Random
    ) -> None:
        self._url = url
        self._channel = channel
        self._token = token
        self._mint = mint
        self._viewer = viewer
        self._random = random
        self._after: int | None = None
        self._failures = 0
        self._began = False

    async def run(self) -> None:
        """Until cancelled. Raises RefusedError when no return is of use, UnreachableError when the first try fails."""
        while True:
            if self._mint is not None:
                self._token = self._mint()
            action = await self._once()
            if isinstance(action, Stop):
                raise RefusedError(action.why)
            await asyncio.sleep(action.wait_s)

    async def _once(self) -> Return | Stop:
        opened = await dial(self._url, self._token, OPEN_TIMEOUT_S, "heiwa-watch")
        if isinstance(opened, Stop):
            return opened
        if isinstance(opened, Unreached):
            if not self._began:
                raise UnreachableError(f"{self._url} cannot be reached: {opened.why}")
            return self._again(Return(backoff_s(self._failures, self._random)), f"cannot be reached ({opened.why})")
        if isinstance(opened, Refused):
            action = after_refusal(
                opened.status,
                opened.detail,
                opened.retry_after_s,
                mints=self._mint is not None and self._began,
                failures=self._failures,
                random=self._random,
            )
            return self._again(action, f"refused with HTTP {opened.status} ({opened.detail})")
        async with opened:
            return await self._watch(opened)

    def _again(self, action: Return | Stop, why: str) -> Return | Stop:
        self._failures += 1
        if isinstance(action, Return):
            self._viewer.note(f"{why}; again in {action.wait_s:.1f} s")
        return action

    async def _watch(self, connection: ClientConnection) -> Return | Stop:
        goaway: Goaway | None = None
        with contextlib.suppress(ConnectionClosed):
            await connection.send(encode_subscribe(self._channel, self._after), text=True)
            async for frame in connection:
                try:
                    message = decode(frame)
                except msgspec.DecodeError as error:
                    raise RefusedError(f"{self._url} sent something unreadable: {error}") from error
                if isinstance(message, Goaway):
                    goaway = message
                    break
                action = self._take(message)
                if action is not None:
                    return action
        if goaway is not None:
            action = after_goaway(
                goaway.reason,
                goaway.reconnect_after_ms,
                mints=self._mint is not None,
                failures=self._failures,
                random=self._random,
            )
            return self._again(action, f"the gateway asked to leave ({goaway.reason})")
        code, reason = connection.close_code, connection.close_reason or ""
        ended = after_close(
            None if code == 1006 else code,
            reason,
            mints=self._mint is not None,
            failures=self._failures,
            random=self._random,
        )
        return self._again(ended, f"closed with {code} {reason}".rstrip())

    def _take(self, message: Subscribed | Event | Problem | Goaway | None) -> Return | Stop | None:
        """None: go on."""
        if isinstance(message, Event) and message.channel == self._channel:
            self._after = message.offset
            self._viewer.event(message)
        elif isinstance(message, Subscribed) and message.channel == self._channel:
            self._began, self._failures = True, 0
            if message.snapshot is not None or self._after is None:
                self._viewer.snapshot(message)
            self._after = message.offset
        elif isinstance(message, Problem) and message.channel == self._channel:
            if message.code in _GAPS:
                self._viewer.note(f"{message.code}: {message.message}")
            elif message.code in _PASSING:
                wait = Return(backoff_s(self._failures, self._random))
                return self._again(wait, f"{message.code}: {message.message}")
            else:
                return Stop(f"{self._channel}: {message.code}: {message.message}")
        return None
