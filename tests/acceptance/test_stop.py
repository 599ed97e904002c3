"""SIGTERM once: everyone is sent away calmly and everything accepted is stored. Twice: at once."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.program import Program, eventually, location, refusal, send
from tests.support.wire import CLOSE, client_frame, close_payload


def test_terminate_sends_goaway_then_1001(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        with program.connect("dev") as connection:
            send(connection, location("last"))
            program.process.terminate()
            seen = []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    seen.append(json.loads(connection.recv(10)))
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            kinds = [message["type"] for message in seen]
            assert "goaway" in kinds
            goaway = seen[kinds.index("goaway")]
            assert goaway["reason"] == "shutdown"
            assert 0 <= goaway["reconnect_after_ms"] < 1000
        assert program.process.wait(30) == 0
        acked = any("last" in message["ids"] for message in seen if message["type"] == "ack")
    with Program(tmp_path / "data") as program:
        assert [event["id"] for event in program.found()] == ["last"] * acked


def test_class_with_abort_is_reset(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        token = program_token(program, "esp", "esp-idf")
        with program.connect("esp", token=token) as connection:
            send(connection, location("last"))
            program.process.terminate()
            seen = []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    seen.append(json.loads(connection.recv(10))["type"])
            assert sorted(seen) == ["ack", "goaway"]
            assert closed.value.rcvd is None
            assert isinstance(closed.value.__cause__, ConnectionResetError)
        assert program.process.wait(30) == 0


def program_token(program: Program, sub: str, device_class: str) -> str:
    from gateway.identity.key_files import local_key
    from gateway.identity.token import mint

    claims = {"sub": sub, "scope": "location:write", "exp": time.time() + 60, "class": device_class}
    return mint(claims, local_key(program.folder))


def test_while_leaving_it_is_not_ready_and_refuses(tmp_path: Path) -> None:
    # A window of two seconds leaves time to ask.
    with Program(tmp_path / "data", "drain.stop_timeout_s=12") as program:
        with silent_peer(program) as _:
            program.process.terminate()
            eventually(lambda: not ready(program), what="still ready")
            status, headers, problem = refusal(program.connect("new"))
            assert status == 503
            assert int(headers["Retry-After"]) > 0
            assert "leaving" in problem["detail"]
        assert program.process.wait(30) == 0


def test_a_peer_that_never_answers_does_not_hold_it_up(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "connections.close_timeout_s=1") as program, silent_peer(program):
        began = time.monotonic()
        assert program.terminate() == 0
        assert time.monotonic() - began < 10


def test_an_answer_that_came_while_it_stood_still_is_read_before_the_rest_is_cut(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program, silent_peer(program) as peer:
        program.process.terminate()
        # FIN and close, with the code 1001.
        seen = b""
        while b"\x03\xe9" not in seen:
            seen += peer.recv(65536)
        # Only a loop that waits for its sockets looks at the clock first when it goes on.
        eventually(lambda: state(program) == "S")
        program.process.send_signal(signal.SIGSTOP)
        eventually(lambda: state(program) == "T")
        peer.sendall(client_frame(CLOSE, close_payload(1001)))
        # It cuts what is left after two seconds.
        time.sleep(2.2)
        program.process.send_signal(signal.SIGCONT)
        # A reset would raise.
        while peer.recv(65536):
            pass
        assert program.process.wait(30) == 0


def test_twice_is_at_once(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "connections.close_timeout_s=60") as program, silent_peer(program):
        program.process.terminate()
        eventually(lambda: any(event["event"] == "stopping" for event in program.events()))
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(15) == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_whatever_asks_for_an_end_is_obeyed_calmly(tmp_path: Path, number: signal.Signals) -> None:
    with Program(tmp_path / "data") as program, program.connect("dev") as connection:
        program.process.send_signal(number)
        kinds = []
        with pytest.raises(ConnectionClosed):
            while True:
                kinds.append(json.loads(connection.recv(10))["type"])
        assert "goaway" in kinds
        assert program.process.wait(30) == 0


def test_a_terminal_that_closes_twice_is_no_hurry(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "connections.close_timeout_s=2") as program, silent_peer(program):
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGQUIT):
            program.process.send_signal(number)
            eventually(lambda: any(event["event"] == "stopping" for event in program.events()))
        assert program.process.wait(30) == 0
        assert not [event for event in program.events() if event["event"] == "stopping_at_once"]


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR"])
def test_what_means_nothing_ends_nothing(tmp_path: Path, name: str) -> None:
    with Program(tmp_path / "data") as program, program.connect("dev") as connection:
        program.process.send_signal(getattr(signal, name))
        send(connection, location("still"))
        assert json.loads(connection.recv(10))["ids"] == ["still"]


def caught(program: Program) -> bool:
    """Whether SIGTERM has a handler of the program's own by now."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(mask >> (signal.SIGTERM - 1) & 1)


def state(program: Program) -> str:
    """Of its main thread: S waits, T is stopped (proc(5))."""
    return Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_drain_that_is_ordered_too_early_ends_nothing(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    eventually(lambda: caught(program))
    program.process.send_signal(signal.SIGUSR1)
    with program:
        assert program.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_end_while_it_starts_is_a_calm_end(tmp_path: Path, number: signal.Signals) -> None:
    program = Program(tmp_path / "data")
    with ExitStack() as stack:
        stack.push(program)
        eventually(lambda: caught(program))
        program.process.send_signal(number)
        assert program.process.wait(30) == 0


def test_nohup_is_respected(tmp_path: Path) -> None:
    with Program(tmp_path / "data", prefix=("nohup",)) as program, program.connect("dev") as connection:
        program.process.send_signal(signal.SIGHUP)
        send(connection, location("still"))
        assert json.loads(connection.recv(10))["ids"] == ["still"]


def ready(program: Program) -> bool:
    with socket.create_connection(("127.0.0.1", program.public_port), 5) as peer:
        peer.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b" 200 " in peer.recv(65536).split(b"\r\n")[0]


def silent_peer(program: Program) -> socket.socket:
    """A websocket whose owner stopped: it neither answers pings nor closes."""
    peer = socket.create_connection(("127.0.0.1", program.public_port), 10)
    peer.sendall(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Authorization: Bearer " + program.token("silent").encode() + b"\r\n\r\n"
    )
    assert peer.recv(65536).startswith(b"HTTP/1.1 101")
    return peer
