"""Classes of devices that are reset instead of closed: what is written arrives, and who repeats has to wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.connections import outgoing
from gateway.connections.connection import Connection
from gateway.connections.ending import FORBIDDEN, REPLACED, TOKEN, TOKEN_EXPIRED
from gateway.wire.close_codes import REPEATS, Fault
from tests.support.bench import ECHO, Bench, FakeAuthenticator, Recording, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import BINARY, CLOSE, CONT, PING, TEXT, client_frame, read_answer, request, server_frames

FLAGS = ("device_classes.lorry.close=abort", "connections.heartbeat_s=10", "connections.max_message_bytes=1024")


class Refusing(Recording):
    """Refuses binary messages, as the gateway's own session does."""

    def binary(self, connection: Connection, payload: bytes) -> None:
        connection.fail(1003, "only text frames are understood")


def _bench(*flags: str) -> Bench:
    authenticator = FakeAuthenticator(good=device(device_class="lorry"))
    return Bench(*FLAGS, *flags, session=Refusing(), authenticator=authenticator)


def _fails(code: int) -> Callable[[Bench, Connection, FakeTransport], None]:
    return lambda bench, connection, transport: connection.fail(code, "")


def _feeds(data: bytes) -> Callable[[Bench, Connection, FakeTransport], None]:
    return lambda bench, connection, transport: transport.feed(data)


def _is_silent(bench: Bench, connection: Connection, transport: FakeTransport) -> None:
    bench.pass_time(20.25)


def _reads_nothing(bench: Bench, connection: Connection, transport: FakeTransport) -> None:
    transport.stop_taking()
    connection.send(b"x" * 300_000)


ENDS = [
    pytest.param(4408, "heartbeat_timeout", _is_silent, id="silent"),
    pytest.param(4408, "heartbeat_timeout", _fails(4408), id="4408"),
    pytest.param(4503, "slow_consumer", _reads_nothing, id="reads nothing"),
    pytest.param(4429, "rate", _fails(4429), id="4429"),
    pytest.param(4400, "invalid_messages", _fails(4400), id="4400"),
    pytest.param(4401, "token", lambda _, connection, __: connection.close(TOKEN, ""), id="4401"),
    pytest.param(4403, "forbidden", lambda _, connection, __: connection.close(FORBIDDEN, ""), id="4403"),
    pytest.param(1002, "protocol", _feeds(client_frame(CONT, b"a")), id="1002"),
    pytest.param(1002, "protocol", _feeds(client_frame(TEXT, b"a", mask=None)), id="unmasked"),
    pytest.param(1003, "unsupported_data", _feeds(client_frame(BINARY, b"a")), id="1003"),
    pytest.param(1007, "invalid_data", _feeds(client_frame(TEXT, b"\xff")), id="1007"),
    pytest.param(
        1007, "protocol", _feeds(client_frame(TEXT, b"\xff", final=False) + client_frame(CONT, b"")), id="1007 later"
    ),
    pytest.param(1009, "protocol", _feeds(client_frame(TEXT, b"x" * 1025)), id="1009"),
    pytest.param(1011, "internal_error", lambda _, connection, __: connection.failed(KeyError("x")), id="1011"),
]


@pytest.mark.parametrize(("code", "reason", "end"), ENDS)
def test_no_close_of_ours_has_a_frame(
    code: int, reason: str, end: Callable[[Bench, Connection, FakeTransport], None]
) -> None:
    bench = _bench()
    connection, transport = bench.open(device(device_class="lorry"))
    end(bench, connection, transport)
    assert not transport.aborted, "what was written has a moment to leave"
    assert not transport.reading
    bench.pass_time(1.5)
    assert transport.aborted
    assert transport.socket.options, "a reset, not an end"
    assert CLOSE not in {frame.opcode for frame in server_frames(transport.take())}
    transport.finish()
    ((found_reason, found_code, fault),) = bench.hub.disconnects
    assert (found_reason, found_code) == (reason, code)
    assert fault is not Fault.PLAN


@pytest.mark.parametrize(("code", "reason", "end"), ENDS)
def test_who_would_send_the_same_again_is_held_off(
    code: int, reason: str, end: Callable[[Bench, Connection, FakeTransport], None]
) -> None:
    bench = _bench("connections.flap_holdoff_s=30", "connections.flap_limit=0")
    connection, transport = bench.open(device(device_class="lorry"))
    end(bench, connection, transport)
    bench.pass_time(1.5)
    transport.finish()
    again = bench.accept()
    again.feed(request("good", protocols=[ECHO]))
    answer = read_answer(again.take())
    if code in REPEATS:
        assert answer.status == 429
        assert 31 <= int(answer.headers["retry-after"]) <= 50
        bench.pass_time(31)
        again = bench.accept()
        again.feed(request("good", protocols=[ECHO]))
        assert read_answer(again.take()).status == 101
    else:
        assert answer.status == 101


def test_who_was_asked_to_leave_is_not_held_off() -> None:
    bench = _bench()
    connection, transport = bench.open(device(device_class="lorry"))
    connection.leave(TOKEN_EXPIRED)
    bench.pass_time(3)
    assert transport.aborted
    transport.finish()
    again = bench.accept()
    again.feed(request("good", protocols=[ECHO]))
    assert read_answer(again.take()).status == 101


def test_only_a_replaced_device_gets_its_frame() -> None:
    connection, transport = _bench().open(device(device_class="lorry"))
    connection.leave(REPLACED)
    assert [frame.close_code for frame in server_frames(transport.take()) if frame.opcode == CLOSE] == [4409]


def test_a_peer_that_closes_is_answered() -> None:
    _, transport = _bench().open(device(device_class="lorry"))
    transport.feed(client_frame(CLOSE, b"\x03\xe8"))
    assert [frame.close_code for frame in server_frames(transport.take())] == [1000]


def test_answers_in_flight_come_first() -> None:
    bench = _bench()
    connection, transport = bench.open(device(device_class="lorry"))
    connection.expect(1)
    connection.fail(4400, "")
    bench.pass_time(0.5)
    assert not transport.aborted
    connection.answer([b"an answer"], 1)
    assert b"an answer" in transport.take()
    bench.pass_time(0.25)
    assert transport.aborted


def test_answers_in_flight_are_waited_for_a_second() -> None:
    bench = _bench()
    connection, transport = bench.open(device(device_class="lorry"))
    connection.expect(1)
    connection.fail(4400, "")
    bench.pass_time(1.25)
    assert transport.aborted


@pytest.mark.parametrize("where", ["the program", "the kernel"])
def test_the_reset_waits_until_everything_is_with_the_peer(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = _bench()
    connection, transport = bench.open(device(device_class="lorry"))
    queued = [100]
    if where == "the kernel":
        monkeypatch.setattr(outgoing, "unsent_bytes", lambda _: queued[0])
    else:
        transport._unsent = 100
    connection.fail(4429, "")
    bench.pass_time(0.5)
    assert not transport.aborted
    queued[0] = transport._unsent = 0
    bench.pass_time(0.25)
    assert transport.aborted


def test_nothing_is_read_any_more_before_a_reset() -> None:
    bench = _bench()
    connection, transport = bench.open(device(device_class="lorry"))
    transport.feed(client_frame(TEXT, b"\xff") + client_frame(TEXT, b"hello") + client_frame(PING, b"?"))
    assert transport.take() == b""
    assert connection.session.messages == []  # type: ignore[attr-defined]
