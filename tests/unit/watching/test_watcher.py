"""A watcher against servers that end its connection in every way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from gateway.device.dialing import SUBPROTOCOL
from gateway.errors import RefusedError, UnreachableError
from gateway.watching.messages import Event, Subscribed
from gateway.watching.watcher import Watcher

RUN = "run:1"
# What a server sends after each subscription; None: it closes then.
Script = list[list[dict[str, Any] | None]]


class Seen:
    """The Viewer: remembers, and says when it has seen enough."""

    def __init__(self, enough: int) -> None:
        self.told: list[Any] = []
        self.notes: list[str] = []
        self._left = enough
        self.enough = asyncio.Event()

    def snapshot(self, subscribed: Subscribed) -> None:
        self._add(("snapshot", subscribed.snapshot))

    def event(self, event: Event) -> None:
        self._add((event.offset, event.data))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _add(self, what: Any) -> None:
        self.told.append(what)
        self._left -= 1
        if self._left == 0:
            self.enough.set()


class Server:
    """Plays a script, one part a connection; remembers what it was asked."""

    def __init__(self, script: Script) -> None:
        self.asked: list[Any] = []
        self.tokens: list[str] = []
        self._script = script

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.tokens.append(connection.request.headers["Authorization"])
        self.asked.append(json.loads(await connection.recv()))
        for message in self._script.pop(0):
            if message is None:
                await connection.close()
                return
            await connection.send(json.dumps(message))
        await connection.wait_closed()


@contextlib.asynccontextmanager
async def _served(
    script: Script, refuse: Callable[[ServerConnection, Request], Response | None] | None = None
) -> AsyncIterator[tuple[Server, str]]:
    server = Server(script)
    async with serve(server.handle, "127.0.0.1", 0, process_request=refuse, subprotocols=[SUBPROTOCOL]) as listening:
        yield server, f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/ws"


def _event(offset: int) -> dict[str, Any]:
    return {"type": "event", "channel": RUN, "time": 1, "offset": offset, "data": {"n": offset}}


async def _watch(url: str, enough: int, channel: str = RUN) -> Seen:
    seen, tokens = Seen(enough), iter(range(100))
    watcher = Watcher(url, channel, "", lambda: f"token-{next(tokens)}", seen, Random(1))
    watching = asyncio.create_task(watcher.run())
    waiting = asyncio.create_task(seen.enough.wait())
    async with asyncio.timeout(20):
        await asyncio.wait([watching, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if watching.done():
        await watching
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return seen


async def test_after_every_end_it_goes_on_after_the_last_offset() -> None:
    begun = {"type": "subscribed", "channel": RUN, "offset": 4, "snapshot": {"n": 4}}
    goaway = {"type": "goaway", "reason": "drain", "reconnect_after_ms": 1}
    again = {"type": "subscribed", "channel": RUN, "offset": 5}
    async with _served(
        [
            [begun, {"type": "welcome"}, _event(5), goaway],
            [again, _event(6), None],
            [{**again, "offset": 6}, _event(7)],
        ]
    ) as (server, url):
        seen = await _watch(url, 4)
    assert seen.told == [("snapshot", {"n": 4}), (5, {"n": 5}), (6, {"n": 6}), (7, {"n": 7})]
    assert [asked.get("after") for asked in server.asked] == [None, 5, 6]
    assert server.tokens == ["Bearer token-0", "Bearer token-1", "Bearer token-2"]


async def test_a_gap_is_said_and_a_new_snapshot_shown() -> None:
    gap = {"type": "error", "code": "offset_too_old", "message": "gone", "channel": RUN}
    begun = {"type": "subscribed", "channel": RUN, "offset": 9, "snapshot": {"n": 9}}
    async with _served([[begun, gap, begun]]) as (_, url):
        seen = await _watch(url, 2)
    assert seen.notes == ["offset_too_old: gone"]


async def test_what_passes_by_itself_is_tried_again() -> None:
    busy = {"type": "error", "code": "unavailable", "message": "not now", "channel": RUN}
    begun = {"type": "subscribed", "channel": RUN, "offset": 0, "snapshot": {}}
    async with _served([[busy], [begun]]) as (server, url):
        await _watch(url, 1)
    assert len(server.asked) == 2


@pytest.mark.parametrize("code", ["not_found", "forbidden", "too_many"])
async def test_a_refusal_is_the_end(code: str) -> None:
    refused = {"type": "error", "code": code, "message": "no", "channel": RUN}
    async with _served([[refused]]) as (_, url):
        with pytest.raises(RefusedError, match=f"{RUN}: {code}: no"):
            await _watch(url, 1)


async def test_a_refused_token_is_the_end() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(403, '{"detail": "no such scope"}')

    async with _served([], refuse) as (_, url):
        with pytest.raises(RefusedError, match=r"HTTP 403: no such scope"):
            await _watch(url, 1)


async def test_a_server_that_is_not_there_at_first_is_said_at_once() -> None:
    with pytest.raises(UnreachableError, match="connection refused"):
        await _watch("ws://127.0.0.1:1/ws", 1)
    with pytest.raises(RefusedError, match="not a websocket address"):
        await _watch("http://127.0.0.1:1/ws", 1)
