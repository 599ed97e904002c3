"""What a peer's frames cost is bounded, whether they are messages or not; and so is what an error of ours ends."""

from __future__ import annotations

import asyncio

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.connections.connection import Connection
from gateway.connections.ending import DRAIN
from gateway.connections.websocket import MAX_FRAMES_A_TURN
from gateway.wire.inflated import Inflated
from tests.support.bench import Bench, Recording, device
from tests.support.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, client_frame, server_frames

RATES = ("connections.messages_per_s=16", "connections.messages_burst=32", "connections.heartbeat_s=10")
BEGUN = client_frame(TEXT, b"", final=False)


def _codes(transport_data: bytes) -> list[int]:
    return [frame.close_code for frame in server_frames(transport_data) if frame.opcode == CLOSE]


@pytest.mark.parametrize(
    ("frame", "most"),
    [
        (client_frame(TEXT, b"a"), 32),
        (client_frame(BINARY, b"a"), 32),
        (client_frame(PING), 128),
        (client_frame(PING, b"payload"), 128),
        (client_frame(PONG), 128),
        (client_frame(PONG, b"unasked"), 128),
    ],
)
def test_every_frame_counts(frame: bytes, most: int) -> None:
    bench = Bench(*RATES)
    _, transport = bench.open()
    transport.feed(frame * most)
    assert _codes(transport.take()) == []
    transport.feed(frame)
    assert _codes(transport.take()) == [4429]


def test_frames_that_come_one_by_one_count_the_same() -> None:
    bench = Bench(*RATES)
    _, transport = bench.open()
    for _ in range(128):
        transport.feed(client_frame(PONG))
    assert _codes(transport.take()) == []
    transport.feed(client_frame(PONG))
    assert _codes(transport.take()) == [4429]


@pytest.mark.parametrize(("fragment", "most"), [(b"a", 128), (b"", 64)])
def test_fragments_count_and_empty_ones_double(fragment: bytes, most: int) -> None:
    bench = Bench(*RATES)
    _, transport = bench.open()
    transport.feed(client_frame(TEXT, fragment, final=False) + client_frame(CONT, fragment, final=False) * (most - 1))
    assert _codes(transport.take()) == []
    transport.feed(client_frame(CONT, fragment, final=False))
    assert _codes(transport.take()) == [4429]


def test_a_frame_in_many_pieces_counts_its_pieces() -> None:
    bench = Bench(*RATES, "connections.max_message_bytes=4096")
    _, transport = bench.open()
    for byte in client_frame(TEXT, b"x" * 600)[:512]:
        transport.feed(bytes((byte,)))
    assert _codes(transport.take()) == []
    for byte in client_frame(TEXT, b"x" * 600)[512:518]:
        transport.feed(bytes((byte,)))
    assert _codes(transport.take()) == [4429]


def test_a_peer_that_goes_on_after_our_close_is_cut() -> None:
    bench = Bench(*RATES)
    connection, transport = bench.open()
    connection.close(DRAIN, "", code=1001)
    transport.feed(client_frame(TEXT, b"a") * 32)
    assert not transport.aborted
    transport.feed(client_frame(TEXT, b"a"))
    assert transport.aborted


def test_nothing_is_looked_at_behind_a_failure() -> None:
    bench = Bench(*RATES)
    _, transport = bench.open()
    transport.feed(client_frame(CONT, b"") + client_frame(PING, b"?") * 1000)
    assert [frame.opcode for frame in server_frames(transport.take())] == [CLOSE]
    assert not transport.aborted


def test_a_read_of_very_many_frames_lets_others_have_their_turn() -> None:
    async def read() -> None:
        bench = Bench()
        _, transport = bench.open()
        transport.feed(client_frame(PING, b"?") * (MAX_FRAMES_A_TURN + 1) + client_frame(TEXT, b"last"))
        assert len(server_frames(transport.take())) == MAX_FRAMES_A_TURN
        assert not transport.reading, "what comes next comes behind the rest"
        await asyncio.sleep(0)
        assert [frame.payload for frame in server_frames(transport.take())] == [b"?", b"last"]
        assert transport.reading

    asyncio.run(read())


def test_the_rest_of_a_read_is_not_of_whoever_has_the_slot_next() -> None:
    async def read() -> None:
        bench = Bench("connections.messages_per_s=1000", "connections.messages_burst=5000")
        _, transport = bench.open()
        transport.feed(client_frame(PING, b"?") * MAX_FRAMES_A_TURN + client_frame(TEXT, b"of the first"))
        transport.close()
        transport.finish()
        other, _ = bench.open(device("dev-2"))
        await asyncio.sleep(0)
        assert bench.session.messages == []
        assert bench.hub.table.messages_s[other.slot] == 0, "it pays for its own frames"

    asyncio.run(read())


def test_a_close_of_ours_does_not_lose_the_rest_of_a_read() -> None:
    async def read() -> None:
        bench = Bench()
        connection, transport = bench.open()
        answer = client_frame(CLOSE, b"\x03\xe9")
        transport.feed(client_frame(PING, b"?") * MAX_FRAMES_A_TURN + answer)
        connection.close(DRAIN, "", code=1001)
        assert not transport.reading
        await asyncio.sleep(0)
        assert transport.ended, "the peer's close was read"

    asyncio.run(read())


def test_answers_to_one_read_leave_in_one_write() -> None:
    bench = Bench()
    _, transport = bench.open()
    before = transport.writes
    transport.feed(client_frame(PING, b"1") + client_frame(TEXT, b"a") + client_frame(PING, b"2"))
    assert [frame.payload for frame in server_frames(transport.take())] == [b"1", b"a", b"2"]
    assert transport.writes == before + 1


class Meddling(Recording):
    """Sends to another connection while it reads from one."""

    def text(self, connection: Connection, payload: bytes) -> None:
        connection.send(b"mine")
        self.connections[0].send_all([b"yours", b"too"])


def test_what_is_joined_never_reaches_another_connection() -> None:
    bench = Bench(session=Meddling())
    _, first = bench.open(device("one"))
    _, second = bench.open(device("two", "other"))
    second.feed(client_frame(TEXT, b"x"))
    assert [frame.payload for frame in server_frames(first.take())] == [b"yours", b"too"]
    assert [frame.payload for frame in server_frames(second.take())] == [b"mine"]


def test_what_is_joined_is_not_written_to_one_that_is_slow() -> None:
    bench = Bench(session=Meddling())
    _, slow = bench.open(device("one"))
    _, second = bench.open(device("two", "other"))
    slow.stop_taking()
    slow.write(b"x" * 70_000)
    slow.take()
    second.feed(client_frame(TEXT, b"x") + client_frame(TEXT, b"y"))
    assert [frame.payload for frame in server_frames(slow.take())] == [b"yours", b"too"] * 2
    assert [frame.payload for frame in server_frames(second.take())] == [b"mine", b"mine"]


# The time of a message


@pytest.mark.parametrize(
    "part", [BEGUN + client_frame(CONT, b"a", final=False), client_frame(TEXT, b"hello")[:-1], b"\x81"]
)
def test_a_message_has_a_heartbeat(part: bytes) -> None:
    bench = Bench("connections.heartbeat_s=10")
    _, transport = bench.open()
    # Another look at the connection is due before the message's time is over.
    bench.pass_time(5)
    transport.feed(part)
    for _ in range(4):
        bench.pass_time(2)
        transport.feed(client_frame(PONG) if part.startswith(BEGUN) else b"")
    assert _codes(transport.take()) == []
    bench.pass_time(2.5)
    assert _codes(transport.take()) == [4408]
    transport.finish()
    ((reason, code, _),) = bench.hub.disconnects
    assert (reason, code) == ("heartbeat_timeout", 4408)


def test_messages_one_after_the_other_have_a_heartbeat_each() -> None:
    bench = Bench("connections.heartbeat_s=10")
    _, transport = bench.open()
    frame = client_frame(TEXT, b"hello")
    transport.feed(frame[:5])
    for _ in range(5):
        bench.pass_time(6)
        transport.feed(frame[5:] + frame[:5])
    assert bench.session.messages == [b"hello"] * 5
    assert not transport.closing


def test_a_message_begins_with_its_first_byte_where_messages_are_compressed() -> None:
    bench = Bench("connections.heartbeat_s=10")
    protocol = ServerProtocol(state=State.OPEN, max_size=1000)
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    _, transport = bench.open(inflated=Inflated(1000, protocol))
    for _ in range(6):
        bench.pass_time(5)
        transport.feed(client_frame(PONG))
    transport.feed(client_frame(TEXT, b"hel", final=False))
    bench.pass_time(9)
    transport.feed(client_frame(CONT, b"lo"))
    assert bench.session.messages == [b"hello"]


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (client_frame(TEXT, b"hello")[:-1], client_frame(TEXT, b"hello")[-1:]),
        (client_frame(TEXT, b"hel", final=False), client_frame(CONT, b"lo")),
    ],
)
def test_the_time_of_a_message_stops_while_we_do_not_read(begin: bytes, end: bytes) -> None:
    bench = Bench("connections.heartbeat_s=10")
    connection, transport = bench.open()
    transport.feed(begin)
    connection.expect(1)
    connection.pause_reading()
    bench.pass_time(30)
    assert _codes(transport.take()) == []
    connection.resume_reading()
    bench.pass_time(9)
    transport.feed(end)
    assert bench.session.messages == [b"hello"]


def test_a_fragmented_message_is_kept_in_one_piece() -> None:
    bench = Bench("connections.max_message_bytes=131072")
    connection, transport = bench.open()
    transport.feed(client_frame(TEXT, b"ab", final=False) + client_frame(CONT, b"ab", final=False) * 499)
    transport.feed(client_frame(CONT, b"ab", final=False) * 500)
    assert connection.busy
    transport.feed(client_frame(CONT, b"!"))
    assert bench.session.messages == [b"ab" * 1000 + b"!"]
    assert not connection.busy


# Errors of ours


class Failing(Recording):
    """Fails with what it is told."""

    def text(self, connection: Connection, payload: bytes) -> None:
        connection.send(b"before")
        raise KeyError(payload)


def test_an_error_of_ours_ends_one_connection_with_1011() -> None:
    bench = Bench(session=Failing())
    _, transport = bench.open(device("one"))
    _, other = bench.open(device("two"))
    transport.feed(client_frame(TEXT, b"x"))
    assert [frame.payload for frame in server_frames(transport.take()) if frame.opcode == TEXT] == [b"before"]
    transport.feed(client_frame(CLOSE, b"\x03\xf3"))
    transport.finish()
    assert [(reason, code) for reason, code, _ in bench.hub.disconnects] == [("internal_error", 1011)]
    assert not other.closing


def test_an_error_of_ours_when_its_time_comes_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("connections.heartbeat_s=10")
    connection, transport = bench.open(device("one"))
    _, other = bench.open(device("two"))

    def ping(payload: bytes = b"") -> None:
        raise OSError("no buffer space")

    monkeypatch.setattr(Connection, "ping", lambda self, payload: ping() if self is connection else None)
    bench.pass_time(12)
    assert _codes(transport.take()) == [1011]
    assert not other.closing
