"""An HTTP connection on the public listener: passed on, counted, and ended in time."""

from __future__ import annotations

import asyncio

from gateway.connections.handed import MAX_LIFE_S
from tests.support.bench import Bench
from tests.support.fake_transport import FakeTransport


class Api(asyncio.Protocol):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

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
    bench.hub.http = lambda: api
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
    assert bench.hub.admission.open == bench.hub.admission.pending == 0


def test_it_ends_in_time() -> None:
    bench, _, transport = _handed()
    bench.pass_time(MAX_LIFE_S - 1)
    assert not transport.aborted
    bench.pass_time(2)
    assert transport.aborted


def test_its_slot_is_free_for_another() -> None:
    bench, _, transport = _handed()
    transport.finish()
    other = bench.accept()
    bench.pass_time(5)
    assert len(bench.hub.holders) == 1
    assert not other.closing
