"""What is no HTTP, on both listeners: answered by a problem that quotes nothing, in a log that cannot be flooded."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program, eventually

HEAD = b"POST /api/v1/locations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer TOKEN"
# Each holds the token somewhere; `TOKEN` stands for it.
MALFORMED = {
    "NUL behind the token": HEAD + b"\0\r\n\r\n",
    "control character in a header": HEAD + b"\r\nX: \x01\r\n\r\n",
    "DEL in a header's name": HEAD + b"\r\nX\x7f: 1\r\n\r\n",
    "bare carriage return": HEAD + b"\rX\r\n\r\n",
    "no colon": HEAD + b"\r\nBearer TOKEN\r\n\r\n",
    "space before the colon": HEAD + b"\r\nX : TOKEN\r\n\r\n",
    "folded header": HEAD + b"\r\n TOKEN\r\n\r\n",
    "two lengths": HEAD + b"\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a negative length": HEAD + b"\r\nContent-Length: -1\r\n\r\n",
    "a length that is no number": HEAD + b"\r\nContent-Length: TOKEN\r\n\r\n",
    "length and chunks": HEAD + b"\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": HEAD + b"\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "a bad chunk size": HEAD + b"\r\nTransfer-Encoding: chunked\r\n\r\nTOKEN\r\n",
    "an unknown version": b"GET /livez?access_token=TOKEN HTTP/9.9\r\nHost: a\r\n\r\n",
    "no version": b"GET /livez?access_token=TOKEN\r\nHost: a\r\n\r\n",
    "a bad method": b"G\x01T /TOKEN HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long line": b"GET /livez?" + b"x" * 9000 + b"TOKEN HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long header": HEAD + b"\r\nX: " + b"x" * 9000 + b"TOKEN\r\n\r\n",
    "many headers": HEAD + b"".join(b"\r\nX-%d: TOKEN" % number for number in range(200)) + b"\r\n\r\n",
    "a path that is not UTF-8": b"GET /\xff\xfeTOKEN HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bad absolute target": b"GET http://[::TOKEN/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is none": b"GET TOKEN HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nTOKEN",
    "no host": b"GET /livez HTTP/1.1\r\nAuthorization: Bearer TOKEN\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\nAuthorization: Bearer TOKEN\r\n\r\n",
    "an unknown expectation": HEAD + b"\r\nExpect: TOKEN\r\nContent-Length: 0\r\n\r\n",
    "in a second request": b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /TOKEN HTTP/9.9\r\n\r\n",
    "more than the length says": b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxTOKEN / HTTP/1\r\n\r\n",
    "behind an upgrade": b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nTOKEN"
    * 2,
    "a body that is no JSON": HEAD + b"\r\nContent-Length: 9\r\n\r\n{Bearer T",
    "a compressed body that is none": HEAD + b"\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n123456789",
    "an upgrade to something else": HEAD + b"\r\nConnection: Upgrade\r\nUpgrade: TOKEN\r\nContent-Length: 0\r\n\r\n",
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("malformed") / "data", "log.format=json", "log.level=debug") as running:
        yield running


def ports(program: Program) -> list[int]:
    return [program.public_port, int(program.operations.rpartition(":")[2])]


def told(port: int, request: bytes) -> bytes:
    """All that is answered: until the server closes, or says no more for a second."""
    answer = b""
    peer = socket.create_connection(("127.0.0.1", port), timeout=10)
    with peer, contextlib.suppress(ConnectionError, TimeoutError):
        peer.sendall(request)
        while part := peer.recv(65_536):
            answer += part
            peer.settimeout(1)
    return answer


@pytest.mark.parametrize("name", MALFORMED)
def test_the_answer_and_the_log_hold_no_token(program: Program, name: str) -> None:
    token = program.token("lamp").encode()
    for port in ports(program):
        answer = told(port, MALFORMED[name].replace(b"TOKEN", token))
        assert answer, "no answer at all"
        assert token[:40] not in answer
        assert token.rpartition(b".")[2] not in answer
        last = answer[answer.rindex(b"HTTP/") :]
        head, _, body = last.partition(b"\r\n\r\n")
        assert 400 <= int(last[9:12]) < 500
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == int(last[9:12])
        for leaked in (b"aiohttp", b"Python", b"3.11", b"Traceback"):
            assert leaked not in answer
    log = program.log.read_bytes()
    assert token[:40] not in log
    assert token.rpartition(b".")[2] not in log
    assert not [line for line in program.events() if line["level"] in ("error", "critical", "warning")]


def test_they_are_counted_and_named(program: Program) -> None:
    def malformed() -> float:
        return sum(value for name, value in program.metrics().items() if "http_requests_malformed_total" in name)

    before = malformed()
    for port in ports(program):
        told(port, b"GET /livez HTTP/1.1\r\nHost: a\r\nX: \1\r\n\r\n")
    assert malformed() == before + 2

    def named() -> list[dict[str, Any]]:
        return [line for line in program.events() if line["event"] == "request_malformed"]

    eventually(lambda: bool(named()), what="it is not logged")
    lines = named()
    assert {line["listener"] for line in lines} <= {"public", "operations"}
    assert all(set(line) == {"time", "level", "part", "event", "listener", "kind", "address"} for line in lines)


def test_no_peer_can_flood_the_log(program: Program) -> None:
    before = program.log.stat().st_size
    upgrade = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    for _ in range(50):
        for port in ports(program):
            told(port, b"GET /livez HTTP/9.9\r\n\r\n")
            told(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n")
    for port in ports(program):
        told(port, upgrade + b"x" * 400_000)
    # Ten lines a second a listener, and as many at once; the whole takes a few seconds.
    assert program.log.stat().st_size - before < 40_000


def test_the_operations_listener_is_bounded(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "listen.operations_maximum=4", "log.format=json") as program:
        port = int(program.operations.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(40)]
        eventually(lambda: program.metrics()['heiwa_http_connections{listener="operations"}'] <= 4)
        assert program.open_files() < 60
        assert silent[0].recv(1) == b"", "who waited longest made room"
        for peer in silent:
            peer.close()
