"""At its limits the gateway refuses readably and keeps whom it has."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.acceptance.test_stop import silent_peer
from tests.support.program import Program, eventually, location, receive, refusal, send

# The first message comes a moment after the handshake, and is waited for.
AT_A_TIME = 12


def crowd(program: Program, count: int, stack: contextlib.ExitStack) -> tuple[list[ClientConnection], list[int]]:
    """So many devices try to connect, some at a time; who got in, and the status of who did not."""

    def attempt(number: int) -> ClientConnection | int:
        connecting = program.connect(f"crowd-{number}")
        try:
            connection = connecting.__enter__()
        except InvalidStatus as refused:
            return refused.response.status_code if "Retry-After" in refused.response.headers else 0
        stack.push(connecting)
        return connection

    with ThreadPoolExecutor(AT_A_TIME) as threads:
        found = list(threads.map(attempt, range(count)))
    return [one for one in found if not isinstance(one, int)], [one for one in found if isinstance(one, int)]


def still_works(connection: ClientConnection, name: str) -> None:
    send(connection, location(name))
    assert receive(connection, "ack")["ids"] == [name]


def test_maximum(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "connections.maximum=5") as program, contextlib.ExitStack() as stack:
        inside, statuses = crowd(program, 9, stack)
        assert len(inside) == 5
        assert statuses == [503] * 4
        for number, connection in enumerate(inside):
            still_works(connection, f"n{number}")
        inside[0].close()
        eventually(lambda: program.metrics()["heiwa_connections"] < 5)
        assert len(crowd(program, 1, stack)[0]) == 1


def test_health_is_answered_at_the_maximum(tmp_path: Path) -> None:
    with (
        Program(tmp_path / "data", "connections.maximum=1") as program,
        program.connect("dev"),
        socket.create_connection(("127.0.0.1", program.public_port), 5) as peer,
    ):
        peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in peer.recv(65536).split(b"\r\n")[0]


def test_no_file_left_for_a_while_ends_nothing(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "log.format=json") as program, program.connect("dev") as connection:
        still_works(connection, "before")
        soft, hard = resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        eventually(lambda: any(line["event"] == "memory_unknown" for line in program.events()))
        still_works(connection, "meanwhile")
        resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        eventually(lambda: any(line["event"] == "memory_known_again" for line in program.events()))
        still_works(connection, "after")
        assert [line["event"] for line in program.events()].count("memory_unknown") == 1
        assert program.process.poll() is None


def test_peers_of_the_operations_listener_take_no_files(tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -n 200; exec "$@"', "sh")
    with (
        Program(tmp_path / "data", "log.format=json", prefix=limited) as program,
        contextlib.ExitStack() as stack,
        program.connect("dev") as connection,
    ):
        port = int(program.operations.rpartition(":")[2])
        for _ in range(250):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        eventually(lambda: program.metrics()['heiwa_http_connections{listener="operations"}'] <= 16)
        still_works(connection, "still")
        assert not [line for line in program.events() if line["level"] in ("error", "critical")]
        assert program.process.poll() is None


def test_out_of_files(tmp_path: Path) -> None:
    """128 files, 64 of them reserved and a quarter of the rest for HTTP: of a crowd of 150 those for whom there is no
    file are told to come later, and the stores work on."""
    limit = ("prlimit", "--nofile=128:128", "--")
    with Program(tmp_path / "data", prefix=limit) as program, contextlib.ExitStack() as stack:
        inside, statuses = crowd(program, 150, stack)
        assert len(inside) == 48
        assert set(statuses) == {503}
        assert len(statuses) == 150 - 48
        still_works(inside[0], "first")
        still_works(inside[-1], "last")
        assert {event["id"] for event in program.found()} == {"first", "last"}


def test_slow_requests_do_not_use_up_the_reserve(tmp_path: Path) -> None:
    """Peers above the limit that never send their request: the oldest are answered at once, nobody is cut silently."""
    limit = ("prlimit", "--nofile=128:128", "--")
    with Program(tmp_path / "data", prefix=limit) as program, contextlib.ExitStack() as stack:
        inside, _ = crowd(program, 64, stack)
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", program.public_port), 5)) for _ in range(60)]
        answered = [peer.recv(4096) for peer in idle[: 60 - 32]]
        assert all(b" 503 " in answer.split(b"\r\n")[0] for answer in answered)
        still_works(inside[0], "x")


def test_out_of_memory_budget(tmp_path: Path) -> None:
    settings = ("connections.memory_limit_bytes=1000000", "connections.memory_watermark=0.5")
    with Program(tmp_path / "data", *settings) as program:
        eventually(lambda: any(event["event"] == "memory_watermark" for event in program.events()))
        status, headers, problem = refusal(program.connect("dev"))
        assert status == 503
        assert "Retry-After" in headers
        assert "memory" in problem["detail"]


def test_handshakes_a_second(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "connections.handshakes_per_s=1") as program, contextlib.ExitStack() as stack:
        inside, statuses = crowd(program, 10, stack)
        assert 1 <= len(inside) < 10
        assert set(statuses) == {503}


def test_stopped_peer_is_found(tmp_path: Path) -> None:
    """A SIGSTOPped device is half open: the kernel answers, nobody is at home. The heartbeat finds it."""
    with Program(tmp_path / "data", "connections.heartbeat_s=0.5", "connections.close_timeout_s=0.5") as program:
        command = [sys.executable, "-m", "gateway", "device", "--sub", "frozen", "--url", program.url]
        command += ["--set", f"data.folder={program.folder}", "--duration", "60s"]
        device = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: program.metrics()["heiwa_connections"] == 1)
            os.kill(device.pid, signal.SIGSTOP)
            eventually(lambda: program.metrics()["heiwa_connections"] == 0, what="a half-open peer was kept")
            last = program.get("/api/v1/devices/frozen")["last_disconnect"]
            assert last["code"] == 4408
            assert last["fault"] == "network"
        finally:
            device.kill()
            device.wait(10)


def test_a_flood_to_a_peer_that_does_not_read_is_bounded(tmp_path: Path) -> None:
    """Acks and pongs nobody reads: memory stays, and the peer is closed as a slow consumer or cut."""
    settings = ("connections.heartbeat_s=1", "connections.messages_per_s=0", "connections.bytes_per_s=0")
    with Program(tmp_path / "data", *settings, "connections.close_timeout_s=1") as program:
        before = program.resident_bytes()
        with silent_peer(program) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.settimeout(5)
            ping = bytes((0x89, 0x80 | 125)) + b"\0\0\0\0" + b"p" * 125
            with contextlib.suppress(OSError):
                for _ in range(20_000):
                    peer.sendall(ping * 100)
            eventually(lambda: program.metrics()["heiwa_connections"] == 0, what="the slow consumer was kept")
        assert program.resident_bytes() - before < 20 << 20
        reasons = [event.get("reason") for event in program.events() if event["event"] == "disconnect"]
        assert reasons == ["slow_consumer"]


def test_repeated_invalid_messages(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program, program.connect("dev") as connection:
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(100):
                connection.send("{}")
                assert receive(connection)["type"] == "error"
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4400
