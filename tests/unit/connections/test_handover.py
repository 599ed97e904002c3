"""An HTTP connection on the public listener: passed on, counted, and ended in time."""

from __future__ import annotations

import asyncio

from gateway.connections.handover import AUTHORIZED, MAX_LIFE_S, UPGRADE
from tests.support.bench import ECHO, Bench
from tests.support.fake_transport import FakeTransport
from tests.support.wire import TEXT, client_frame, read_answer, request, server_frames


class Api(asyncio.Protocol):
    """Remembers what it is told."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.told: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return True

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(exc)


def _handed() -> tuple[Bench, Api, FakeTransport]:
    bench, api = Bench(), Api()
    bench.door.http = lambda: api
    transport = bench.accept()
    transport.feed(b"GET / HTTP/1.1\r\n\r\n")
    return bench, api, transport


def test_everything_is_passed_on() -> None:
    bench, api, transport = _handed()
    transport.feed(b"more")
    transport.stop_taking()
    transport.write(b"x" * 100_000)
    transport.take_again()
    transport.feed_eof()
    assert not transport.closing, "the inner protocol keeps a half-closed connection"
    transport.finish()
    assert api.told == [b"GET / HTTP/1.1\r\n\r\n", b"more", "pause", "resume", "eof", None]
    counts = bench.hub.admission
    assert counts.open == counts.pending == counts.http == 0


def test_without_an_authorised_request_it_has_the_time_of_a_handshake() -> None:
    bench, _, transport = _handed()
    bench.pass_time(9.5)
    assert not transport.closing
    bench.pass_time(1)
    assert transport.closing, "what was answered still leaves"
    assert not transport.aborted
    bench.pass_time(5.5)
    assert transport.aborted


def test_an_authorised_one_ends_in_time() -> None:
    bench, api, transport = _handed()
    api.transport.get_extra_info(AUTHORIZED)()
    assert bench.hub.admission.pending == 0
    bench.pass_time(MAX_LIFE_S - 1)
    assert not transport.closing
    bench.pass_time(2)
    assert transport.closing
    transport.finish()
    assert bench.hub.admission.pending == bench.hub.admission.http == 0


def test_a_later_request_becomes_a_websocket() -> None:
    async def ask() -> None:
        bench, api, transport = _handed()
        transport.pause_reading()
        api.transport.get_extra_info(UPGRADE)(request("good", protocols=[ECHO]) + client_frame(TEXT, b"hello"))
        answer = read_answer(transport.take())
        assert answer.status == 101
        assert [frame.payload for frame in server_frames(answer.rest)] == [b"hello"]
        assert transport.reading, "the API had paused it"
        assert bench.session.messages == [b"hello"]
        counts = bench.hub.admission
        assert (counts.open, counts.pending, counts.http) == (1, 0, 0)
        api.transport.write(b"late")
        api.transport.close()
        assert api.transport.is_closing()
        assert api.transport.get_extra_info(UPGRADE) is None
        await asyncio.sleep(0)
        assert api.told[-1] is None, "the API hears of the end"
        assert transport.take() == b""
        assert not transport.closing

    asyncio.run(ask())


def test_a_later_request_that_is_refused_is_answered() -> None:
    async def ask() -> None:
        bench, api, transport = _handed()
        api.transport.get_extra_info(UPGRADE)(request("wrong", protocols=[ECHO]))
        assert read_answer(transport.take()).status == 401
        assert transport.closing
        transport.finish()
        counts = bench.hub.admission
        assert counts.open == counts.pending == counts.http == 0

    asyncio.run(ask())


def test_its_slot_is_free_for_another() -> None:
    bench, _, transport = _handed()
    transport.finish()
    other = bench.accept()
    bench.pass_time(5)
    assert len(bench.hub.holders) == 1
    assert not other.closing


def test_what_is_given_back_is_not_handed_over_again() -> None:
    async def ask() -> None:
        bench, api, transport = _handed()
        api.transport.get_extra_info(UPGRADE)(b"GET /%77s HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_answer(transport.take()).status == 404
        assert transport.closing
        transport.finish()
        assert bench.hub.admission.pending == bench.hub.admission.http == 0

    asyncio.run(ask())
