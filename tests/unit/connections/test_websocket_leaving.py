"""Planned closes: goaway first, acks in flight next, then the close in the style of the device's class."""

from __future__ import annotations

import random

import msgspec
import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.connections.connection import Connection
from gateway.connections.ending import DRAIN, MAX_AGE, REPLACED
from gateway.connections.lifetime import token_lead_s
from gateway.protocol.messages import Goaway, encode
from gateway.wire.close_codes import Fault
from gateway.wire.frames import text_frame
from gateway.wire.inflated import Inflated
from tests.support.bench import Bench, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, TEXT, client_frame, close_payload, decompressed, server_frames

ACK, NACK = b'{"type":"ack"}', b'{"type":"nack"}'


def _types(transport: FakeTransport) -> list[object]:
    """What the server said: the type of each message, the code of each close."""
    return [
        frame.close_code if frame.opcode == CLOSE else msgspec.json.decode(frame.payload)["type"]
        for frame in server_frames(transport.take())
    ]


def test_goaway_then_the_close() -> None:
    connection, transport = Bench().open()
    connection.leave(DRAIN, more_s=0)
    goaway, close = server_frames(transport.take())
    assert msgspec.json.decode(goaway.payload) == {"type": "goaway", "reason": "drain", "reconnect_after_ms": 0}
    assert close.close_code == 1001
    assert transport.writes == 2, "the answer to the handshake, then both at once"


def test_goaway_then_the_close_in_the_middle_of_a_fragmented_message() -> None:
    connection, transport = Bench().open()
    transport.feed(client_frame(TEXT, b"a", final=False))
    connection.leave(DRAIN)
    assert _types(transport) == ["goaway", 1001]
    assert transport.writes == 2, "the answer to the handshake, then both at once"


def test_goaway_then_the_close_where_messages_are_compressed() -> None:
    protocol = ServerProtocol(state=State.OPEN, max_size=1000)
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    connection, transport = Bench().open(inflated=Inflated(1000, protocol))
    connection.leave(DRAIN, more_s=0)
    goaway, close = server_frames(transport.take())
    assert decompressed(goaway) == encode(Goaway("drain", 0))
    assert close.close_code == 1001
    assert transport.writes == 2, "the answer to the handshake, then both at once"


def test_a_code_of_the_reason_comes_before_the_code_of_the_class() -> None:
    connection, transport = Bench().open()
    connection.leave(REPLACED)
    assert _types(transport) == ["goaway", 4409]


@pytest.mark.parametrize("device_class", ["esp-idf", "lorry"])
def test_a_class_may_want_a_reset(device_class: str) -> None:
    bench = Bench("device_classes.lorry.close=abort")
    connection, transport = bench.open(device(device_class=device_class))
    connection.leave(DRAIN)
    assert _types(transport) == ["goaway"]
    # What was written has a tick to get out: a reset drops what the kernel still holds.
    assert not transport.aborted
    bench.pass_time(0.5)
    assert transport.aborted
    assert transport.socket.options
    transport.finish()
    assert bench.hub.disconnects == {("drain", 1006, Fault.PLAN): 1}


def test_before_a_reset_nothing_more_is_taken_in() -> None:
    bench = Bench("device_classes.lorry.close=abort")
    connection, transport = bench.open(device(device_class="lorry"))
    connection.expect(1)
    connection.leave(DRAIN)
    assert transport.reading
    connection.answer([ACK], 1)
    assert not transport.reading
    connection.resume_reading()
    assert not transport.reading
    assert _types(transport) == ["goaway", "ack"]
    bench.pass_time(0.5)
    assert transport.aborted


def test_acks_in_flight_come_before_the_close() -> None:
    connection, transport = Bench().open()
    connection.expect(2)
    connection.leave(DRAIN)
    assert _types(transport) == ["goaway"]
    connection.answer([ACK], 1)
    assert _types(transport) == ["ack"]
    connection.answer([NACK], 1)
    assert _types(transport) == ["nack", 1001]


def test_acks_in_flight_are_not_waited_for_longer_than_two_seconds() -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.expect(1)
    connection.leave(DRAIN)
    bench.pass_time(1.25)
    assert _types(transport) == ["goaway"]
    bench.pass_time(0.75)
    assert _types(transport) == [1001]


def test_leaving_twice_is_leaving_once() -> None:
    connection, transport = Bench().open()
    connection.expect(1)
    connection.leave(DRAIN)
    connection.leave(MAX_AGE)
    assert _types(transport) == ["goaway"]


def test_a_peer_that_leaves_by_itself_after_goaway_is_recorded_with_its_code() -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.expect(1)
    connection.leave(DRAIN)
    transport.feed(client_frame(CLOSE, close_payload(1000)))
    transport.finish()
    assert bench.hub.disconnects == {("drain", 1000, Fault.PLAN): 1}


def test_a_peer_that_breaks_off_after_goaway_is_recorded_as_1006() -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.expect(1)
    connection.leave(DRAIN)
    transport.finish()
    assert bench.hub.disconnects == {("drain", 1006, Fault.PLAN): 1}


def test_a_slow_consumer_is_not_asked_to_leave() -> None:
    bench = Bench("connections.outbound_max_bytes=1024")
    connection, transport = bench.open()
    transport.stop_taking()
    connection.send(b"x" * 1000)
    bench.turns.end()
    connection.leave(DRAIN)
    assert [frame.close_code for frame in server_frames(transport.take()) if frame.opcode == CLOSE] == [4503]


def _leave_unread(free_bytes: int) -> tuple[Bench, FakeTransport]:
    """A reset is due, and the peer does not read; so many bytes are free yet of those that may be unsent."""
    bench = Bench("device_classes.lorry.close=abort", "connections.outbound_max_bytes=1024")
    connection, transport = bench.open(device(device_class="lorry"))
    transport.stop_taking()
    transport.write(b"x" * (1024 - free_bytes))
    assert not transport.reading
    transport.take()
    connection.leave(DRAIN, more_s=0)
    return bench, transport


def test_a_goaway_whose_frame_is_one_byte_too_many_is_a_slow_consumers_fault() -> None:
    payload = encode(Goaway("drain", 0))
    bench, transport = _leave_unread(len(payload) + 1)
    assert _types(transport) == [], "a reset has no close frame"
    assert bench.hub.leaving == 0
    bench.pass_time(1.5)
    assert transport.aborted
    transport.finish()
    assert bench.hub.disconnects == {("slow_consumer", 4503, Fault.PEER): 1}


def test_a_goaway_whose_frame_just_fits_is_part_of_the_plan() -> None:
    goaway = text_frame(encode(Goaway("drain", 0)))
    bench, transport = _leave_unread(len(goaway))
    assert transport.take() == goaway
    assert bench.hub.leaving == 1
    bench.pass_time(0.75)
    assert not transport.aborted, "it has a second to read"
    bench.pass_time(0.5)
    assert transport.aborted
    transport.finish()
    assert bench.hub.disconnects == {("drain", 1006, Fault.PLAN): 1}


def test_an_age_is_announced() -> None:
    bench = Bench("connections.max_age_h=0.002-0.002")
    connection, transport = bench.open()
    bench.hub.table.id_high[connection.slot] = bench.clock.time_ms() << 16
    bench.hub.table.expires_ms[connection.slot] = bench.clock.time_ms() + 3_600_000
    bench.hub.plan_end(connection.slot)
    bench.pass_time(6.75)
    assert transport.take() == b""
    bench.pass_time(0.75)
    assert _types(transport) == ["goaway", 1001]


def test_a_token_shown_within_the_leeway_holds_for_the_rest_of_it() -> None:
    bench = Bench("auth.leeway_s=30")
    connection, _ = bench.open()
    bench.hub.table.expires_ms[connection.slot] = bench.clock.time_ms() - 20_000
    bench.hub.plan_end(connection.slot)
    left_s = bench.hub.table.planned_s[connection.slot] - bench.hub.now_s
    assert 8 <= left_s <= 10


def _expiring(bench: Bench, after_s: float) -> tuple[Connection, FakeTransport]:
    connection, transport = bench.open()
    hub, slot = bench.hub, connection.slot
    hub.table.expires_ms[slot] = bench.clock.time_ms() + int(after_s * 1000)
    hub.table.planned_s[slot] = hub.now_s + after_s
    hub.wheel.schedule(slot, hub.table.planned_s[slot])
    return connection, transport


@pytest.mark.parametrize("after_s", [0.25, 3, 20, 44, 60])
def test_the_token_of_a_device_that_never_says_a_word_ends_in_time(after_s: float) -> None:
    bench = Bench()
    expires_s = bench.clock.time_ms() / 1000 + after_s
    connection, transport = bench.open(device()._replace(expires_s=expires_s), greeted=False)
    bench.hub.plan_end(connection.slot)
    bench.pass_time(after_s + 1)
    said = [frame.payload for frame in server_frames(transport.take())]
    assert any(b'"token_expired"' in payload for payload in said)


def test_a_token_that_ends_is_announced_and_closed_with_4401() -> None:
    bench = Bench()
    _, transport = _expiring(bench, 5)
    bench.pass_time(5.5)
    assert _types(transport) == ["goaway"]
    bench.pass_time(2.5)
    assert _types(transport) == [4401]


def test_an_ack_does_not_end_the_time_to_renew_a_token() -> None:
    bench = Bench()
    connection, transport = _expiring(bench, 5)
    connection.expect(1)
    bench.pass_time(5.5)
    connection.answer([ACK], 1)
    assert _types(transport) == ["goaway", "ack"]


def test_a_new_token_in_time_lets_it_stay() -> None:
    bench = Bench("connections.heartbeat_s=60")
    connection, transport = _expiring(bench, 5)
    bench.pass_time(5.5)
    connection.stay()
    bench.pass_time(10)
    assert _types(transport) == ["goaway"]
    transport.feed(client_frame(TEXT, b"hello"))
    assert bench.session.messages == [b"hello"]


def test_a_new_token_does_not_end_a_drain() -> None:
    bench = Bench()
    connection, transport = bench.open()
    connection.expect(1)
    connection.leave(DRAIN)
    connection.stay()
    bench.pass_time(2.5)
    assert _types(transport) == ["goaway", 1001]


def test_tokens_minted_together_do_not_end_together() -> None:
    chance = random.Random(1)
    leads = [token_lead_s(chance.getrandbits(62), 3600) for _ in range(50)]
    assert all(0 <= lead <= 600 for lead in leads)
    assert len({lead // 30 for lead in leads}) > 10


def test_a_class_is_asked_to_stay_away_as_long_as_it_says() -> None:
    bench = Bench("device_classes.slow.reconnect_after_s=30")
    connection, transport = bench.open(device("dev-1", device_class="slow"))
    connection.leave(DRAIN)
    goaway = msgspec.json.decode(server_frames(transport.take())[0].payload)
    assert 30_000 <= goaway["reconnect_after_ms"] < 31_000


def test_a_replaced_device_is_told_so_even_where_its_class_is_reset() -> None:
    bench = Bench("device_classes.esp.close=abort")
    connection, transport = bench.open(device("dev-1", device_class="esp"))
    connection.leave(REPLACED)
    assert _types(transport) == ["goaway", 4409]
