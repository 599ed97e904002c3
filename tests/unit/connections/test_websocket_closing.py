"""The closing handshake that we begin, while the peer is not read: its answer must be."""

from __future__ import annotations

from gateway.connections.ending import DRAIN
from gateway.wire.close_codes import Fault
from tests.support.bench import Bench
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, TEXT, client_frame, close_payload, server_frames


def _answer_our_close(bench: Bench, transport: FakeTransport) -> None:
    """The peer answers our close frame and ends its side."""
    assert [frame.close_code for frame in server_frames(transport.take()) if frame.opcode == CLOSE] == [1012]
    transport.feed(client_frame(CLOSE, close_payload(1012)))
    assert transport.ended
    transport.finish()
    assert bench.hub.disconnects == {("drain", 1012, Fault.PLAN): 1}


def test_the_answer_of_a_peer_above_its_rate_is_read() -> None:
    bench = Bench("connections.bytes_per_s=2000", "connections.max_message_bytes=1024")
    connection, transport = bench.open()
    transport.feed(client_frame(TEXT, b"x" * 1000) * 6)
    assert not transport.reading
    connection.close(DRAIN, "", code=1012)
    assert transport.reading
    _answer_our_close(bench, transport)


def test_the_answer_of_a_peer_is_read_though_the_pipeline_is_full() -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.expect(1)
    connection.pause_reading()
    assert not transport.reading
    connection.close(DRAIN, "", code=1012)
    assert transport.reading
    _answer_our_close(bench, transport)
