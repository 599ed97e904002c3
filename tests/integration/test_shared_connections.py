"""A websocket may be any request of its TCP connection: proxies and many clients reuse one that served HTTP before."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector

from gateway.app.gateway import Gateway
from gateway.identity.minting import Minter
from gateway.settings.load import load
from tests.support.sockets import DEADLINE_S, Peer
from tests.support.wire import PING, TEXT, client_frame, read_answer, request

SETTINGS = ("listen.public=127.0.0.1:0", "listen.operations=127.0.0.1:0", "connections.heartbeat_s=2")
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


class Site:
    """A running gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.hub = gateway.hub
        self.host, _, port = gateway.addresses["public"][0].rpartition(":")
        self.port = int(port)
        self._minter = Minter(gateway.settings)

    @property
    def token(self) -> str:
        now_s = self.hub.clock.time_ms() / 1000
        return self._minter.mint("dev-1", "default", "location:write", "", now_s, 60).token

    async def alone(self) -> None:
        """Until everybody has left: one more connection is answered after all before it."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                last = await self.dial(LIVEZ)
                await _answer(last, 200)
                last.close()
                if self.hub.admission.open <= 1:
                    return

    async def dial(self, data: bytes) -> Peer:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        return Peer(reader, writer)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = load(Path("/dev/null"), {}, [*SETTINGS, f"data.folder={tmp_path}"]).settings
    gateway = Gateway(settings)
    await gateway.start()
    try:
        yield Site(gateway)
    finally:
        await gateway.close()


async def _answer(peer: Peer, status: int) -> dict[str, str]:
    """The next HTTP answer, its body skipped; what follows it stays unread."""
    head = await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
    answer = read_answer(head)
    await peer.reader.readexactly(int(answer.headers.get("content-length", 0)))
    assert answer.status == status
    return answer.headers


async def _message(peer: Peer, kind: str) -> None:
    """The next text message is of this kind."""
    while True:
        first, length = await asyncio.wait_for(peer.reader.readexactly(2), DEADLINE_S)
        size = int.from_bytes(await peer.reader.readexactly(2), "big") if length == 126 else length
        payload = await peer.reader.readexactly(size)
        if first & 0xF != PING:
            assert json.loads(payload)["type"] == kind
            return


def _post(token: str, body: bytes, *, chunked: bool = False) -> bytes:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return (
        b"POST /api/v1/locations HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n" + framing + b"\r\n\r\n" + sent
    )


async def _health(site: Site, peer: Peer) -> None:
    peer.writer.write(LIVEZ)
    await _answer(peer, 200)


async def _missing(site: Site, peer: Peer) -> None:
    peer.writer.write(b"GET /nothing HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    await _answer(peer, 404)


async def _upgrade_of_another_kind(site: Site, peer: Peer) -> None:
    peer.writer.write(LIVEZ[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    await _answer(peer, 200)


async def _locations(site: Site, peer: Peer) -> None:
    peer.writer.write(_post(site.token, b'{"events":[{}]}'))
    await _answer(peer, 200)


async def _locations_in_chunks(site: Site, peer: Peer) -> None:
    peer.writer.write(_post(site.token, b'{"events":[{}]}', chunked=True))
    await _answer(peer, 200)


async def _without_a_token(site: Site, peer: Peer) -> None:
    peer.writer.write(_post("x.y.z", b"{}"))
    await _answer(peer, 401)


@pytest.mark.parametrize(
    "before",
    [_health, _missing, _upgrade_of_another_kind, _locations, _locations_in_chunks, _without_a_token],
)
async def test_a_websocket_after(site: Site, before: Callable[[Site, Peer], Awaitable[None]]) -> None:
    peer = await site.dial(b"")
    for _ in range(2):
        await before(site, peer)
    peer.writer.write(request(site.token))
    await _answer(peer, 101)
    await _message(peer, "welcome")
    peer.writer.write(client_frame(TEXT, b'{"type":"ping"}'))
    await _message(peer, "pong")
    counts = site.hub.admission
    assert (counts.open, counts.pending, counts.http) == (1, 0, 0)
    peer.close()


async def test_pipelined_requests_are_answered_first_and_in_order(site: Site) -> None:
    ping = client_frame(TEXT, b'{"type":"ping"}')
    peer = await site.dial(
        LIVEZ + _post(site.token, b'{"events":[{}]}') + LIVEZ + request(site.token) + ping + ping[:4]
    )
    for _ in range(3):
        assert (await _answer(peer, 200))["content-type"].startswith("application/json")
    await _answer(peer, 101)
    await _message(peer, "welcome")
    await _message(peer, "pong")
    peer.writer.write(ping[4:])
    await _message(peer, "pong")
    peer.close()


async def test_a_long_burst_before_a_websocket_leaves_nothing_paused(site: Site) -> None:
    # More requests than aiohttp parses ahead: it stops reading meanwhile.
    peer = await site.dial(LIVEZ * 64 + request(site.token))
    for _ in range(64):
        await _answer(peer, 200)
    await _answer(peer, 101)
    await _message(peer, "welcome")
    for _ in range(3):
        peer.writer.write(client_frame(TEXT, b'{"type":"ping"}'))
        await _message(peer, "pong")
    peer.close()


@pytest.mark.parametrize(
    ("later", "status"),
    [
        (request("x.y.z"), 401),
        (request(), 401),
        (request(without=["Upgrade"]), 426),
        (request(method="POST"), 405),
        (b"GET /ws HTTP/1.1\r\nHost: gateway.test\r\n\r\n", 426),
    ],
)
async def test_a_later_request_for_a_websocket_is_refused_as_a_first_one_is(
    site: Site, later: bytes, status: int
) -> None:
    peer = await site.dial(LIVEZ)
    await _answer(peer, 200)
    peer.writer.write(later)
    head = await _answer(peer, status)
    assert head["content-type"] == "application/problem+json"
    alone = await site.dial(later)
    first = await _answer(alone, status)
    assert head.keys() == first.keys()
    assert await asyncio.wait_for(peer.reader.read(), DEADLINE_S) == b""
    peer.close()
    alone.close()


@pytest.mark.parametrize("path", ["/%77s", "/w%73", "/ws#", "/ws#a", "/%77%73?x=1", "http://a/%77s", "/ws%20", "//ws"])
@pytest.mark.parametrize("upgrade", [True, False])
async def test_other_spellings_of_the_path_are_not_found(site: Site, path: str, upgrade: bool) -> None:
    asked = request(site.token, path=path, without=() if upgrade else ("Upgrade", "Connection"))
    peer = await site.dial(LIVEZ + asked + LIVEZ)
    for status in (200, 404, 200):
        await _answer(peer, status)
    peer.close()
    alone = await site.dial(asked)
    await _answer(alone, 404)
    alone.close()


async def test_clients_with_a_pool(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.token}"}
    url = f"http://{site.host}:{site.port}"
    async with ClientSession(connector=TCPConnector(limit=1)) as session:
        for _ in range(3):
            async with session.post(f"{url}/api/v1/locations", json={"events": [{}]}, headers=headers) as answer:
                assert answer.status == 200
            async with session.ws_connect(f"{url}/ws", headers=headers) as websocket:
                assert (await websocket.receive_json())["type"] == "welcome"


async def test_an_idle_http_connection_gives_its_place_back(site: Site) -> None:
    peer = await site.dial(LIVEZ)
    await _answer(peer, 200)
    (slot,) = [slot for slot, holder in enumerate(site.hub.holders) if holder is not None]
    site.hub.table.deadline_s[slot] = site.hub.now_s
    site.hub.wheel.schedule(slot, site.hub.now_s)
    assert await asyncio.wait_for(peer.reader.read(), DEADLINE_S) == b""
    peer.close()


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /api/v1/locations HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
        LIVEZ * 30,
        None,
    ],
)
async def test_a_peer_that_breaks_off_is_no_failure_of_ours(
    site: Site, request_head: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    for _ in range(20):
        peer = await site.dial(request_head or _post(site.token, b"x" * 100)[:-50])
        await asyncio.sleep(0)
        peer.close()
    await site.alone()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
