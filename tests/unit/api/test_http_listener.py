"""The bound on HTTP connections: who makes room for whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from gateway.api.http_protocol import HttpListener, HttpProtocol
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport


async def _handle(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


class Unbound(FakeTransport):
    """Has no socket on which aiohttp could set options."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if name == "socket" else super().get_extra_info(name, default)


@pytest.fixture
async def listener() -> HttpListener:
    return HttpListener("operations", web.Server(_handle), FakeClock(), maximum=3)


def opened(listener: HttpListener) -> tuple[HttpProtocol, FakeTransport]:
    protocol = listener()
    assert isinstance(protocol, HttpProtocol)
    transport = Unbound(protocol)
    protocol.connection_made(transport)
    return protocol, transport


async def test_who_has_waited_longest_makes_room(listener: HttpListener) -> None:
    held = [opened(listener) for _ in range(3)]
    held[0][0].began()
    held[0][0].ended()
    opened(listener)
    assert [transport.aborted for _, transport in held] == [False, True, False]
    assert len(listener.open) == 3
    for protocol in list(listener.open):
        protocol.abandon()


async def test_who_is_busy_stays_and_the_new_one_is_told(listener: HttpListener) -> None:
    held = [opened(listener) for _ in range(3)]
    for protocol, _ in held:
        protocol.began()
    refusing = listener()
    assert not isinstance(refusing, HttpProtocol)
    transport = FakeTransport(refusing)
    refusing.connection_made(transport)
    answer = bytes(transport.written)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer
    assert b"application/problem+json" in answer
    assert transport.closing
    assert listener.refused == 1
    assert not any(transport.aborted for _, transport in held)
    held[1][0].ended()
    opened(listener)
    assert [transport.aborted for _, transport in held] == [False, True, False]
    for protocol in list(listener.open):
        protocol.abandon()


async def test_a_parser_that_fails_in_a_way_of_its_own_costs_one_connection(
    listener: HttpListener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (one, transport), (other, _) = opened(listener), opened(listener)

    def fail(_: bytes) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(web.RequestHandler, "data_received", lambda self, data: fail(data))
    one.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert transport.aborted
    assert list(listener.open) == [other]
    assert [record.getMessage() for record in caplog.records] == ["request_failed"]
    other.abandon()


async def test_who_still_reads_an_answer_is_busy() -> None:
    handled = asyncio.Event()

    async def large(_: web.BaseRequest) -> web.StreamResponse:
        handled.set()
        return web.Response(body=b"x" * 20_000_000)

    web_server = web.Server(large)
    listener = HttpListener("operations", web_server, FakeClock(), maximum=1)
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2048)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await handled.wait()
            other, other_writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await other.readline()).startswith(b"HTTP/1.1 503 ")
            await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.readexactly(20_000_000)) == 20_000_000
            third, third_writer = await asyncio.open_connection("127.0.0.1", port)
            third_writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await third.readline()).startswith(b"HTTP/1.1 200 ")
        for one in (writer, other_writer, third_writer):
            one.transport.abort()
    finally:
        server.close()
        await web_server.shutdown(0)
