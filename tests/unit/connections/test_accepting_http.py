"""HTTP connections of the public listener have places of their own, and health checks an answer always."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from tests.support.bench import Bench
from tests.support.fake_transport import FakeTransport
from tests.support.wire import (
    read_answer,
)


class NoApi(asyncio.Protocol):
    """Takes everything and answers nothing."""


def _http(bench: Bench, path: str = "/livez") -> FakeTransport:
    bench.door.http = NoApi
    transport = bench.accept()
    transport.feed(f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
    return transport


def test_http_connections_have_a_maximum_of_their_own() -> None:
    bench = Bench("connections.http_maximum=2")
    first, _ = _http(bench), _http(bench)
    assert bench.hub.admission.http == 2
    answer = read_answer(_http(bench, "/api/v1/locations").take())
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert bench.ask()[1].status == 101, "devices have places of their own"
    first.finish()
    assert _http(bench, "/api/v1/locations").take() == b""


@pytest.mark.parametrize("change", [{"memory_low": True}, {"maximum": 0}, {"max_pending": 0}])
def test_short_of_room_only_health_checks_are_answered(change: dict[str, Any]) -> None:
    bench = Bench()
    bench.hub.admission = dataclasses.replace(bench.hub.admission, **change)
    received: list[bytes] = []

    class Api(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.append(data)

    bench.door.http = Api
    for path in ("/livez", "/readyz?verbose"):
        transport = bench.accept()
        transport.feed(f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: keep-alive\r\n\r\n".encode())
        assert transport.take() == b""
        assert b"\r\nConnection: close\r\n" in received.pop()
        transport.finish()
    for path in ("/api/v1/locations", "/livez2", "/"):
        transport = bench.accept()
        transport.feed(f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
        assert read_answer(transport.take()).status == 503


def test_http_connections_take_no_places_of_devices() -> None:
    bench = Bench(maximum=1)
    for _ in range(40):
        assert _http(bench).take() == b""
    assert bench.ask()[1].status == 101
    assert bench.ask()[1].status == 503
