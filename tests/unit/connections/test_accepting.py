"""From accept to a websocket, the HTTP API or a refusal, on a fake transport."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest

from gateway.connections.connection import Connection
from gateway.connections.ending import DRAIN
from gateway.identity.identity import Identity
from tests.support.bench import ECHO, Bench, FakeAuthenticator, Recording, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import (
    CLOSE,
    PONG,
    TEXT,
    client_frame,
    close_payload,
    decompressed,
    read_answer,
    request,
    server_frames,
)


def _frames(transport: FakeTransport) -> list[object]:
    return [frame.close_code if frame.opcode == CLOSE else frame.opcode for frame in server_frames(transport.take())]


# Steps of the handshake


def test_a_handshake_in_single_bytes() -> None:
    bench = Bench()
    transport = bench.accept()
    for byte in request("good", protocols=[ECHO]) + client_frame(TEXT, b"hello"):
        transport.feed(bytes((byte,)))
    answer = read_answer(transport.take())
    assert answer.status == 101
    assert answer.headers["sec-websocket-protocol"] == ECHO
    assert bench.session.messages == [b"hello"]
    assert bench.hub.admission.pending == 0
    assert bench.hub.admission.open == 1


class Greeting(Recording):
    """Says something first."""

    def greeting(self, connection: Connection) -> bytes:
        return b"welcome"


def _texts(transport: FakeTransport) -> list[bytes]:
    return [frame.payload for frame in server_frames(transport.take())]


def test_the_first_message_is_not_in_the_packet_of_the_answer() -> None:
    bench = Bench(session=Greeting())
    transport, answer = bench.ask()
    assert answer.rest == b""
    bench.pass_time(0.25)
    assert transport.take() == b""
    bench.pass_time(0.5)
    assert _texts(transport) == [b"welcome"]


@pytest.mark.parametrize("late_s", [0.0, 0.1, 0.24])
def test_the_first_message_stays_away_for_its_time_wherever_the_clock_is_between_two_ticks(late_s: float) -> None:
    bench = Bench(session=Greeting())
    bench.clock.advance(late_s)
    transport, _ = bench.ask()
    waited_s = 0.0
    while not transport.take():
        bench.clock.advance(0.01)
        waited_s += 0.01
        bench.hub.tick()
        bench.turns.end()
    assert 0.3 <= round(waited_s, 2) <= 0.6


def test_the_first_message_comes_with_the_first_one_of_the_device() -> None:
    bench = Bench(session=Greeting())
    transport, _ = bench.ask()
    transport.feed(client_frame(TEXT, b"hello"))
    assert _texts(transport) == [b"welcome", b"hello"]
    assert transport.writes == 2, "the answer to the handshake, then both at once"
    bench.pass_time(1)
    assert transport.take() == b"", "it comes once"


@pytest.mark.parametrize("heartbeat_s", ["0.25", "45"])
def test_nothing_comes_before_the_first_message(heartbeat_s: str) -> None:
    bench = Bench(f"connections.heartbeat_s={heartbeat_s}", session=Greeting())
    transport, _ = bench.ask()
    (connection,) = (holder for holder in bench.hub.holders if isinstance(holder, Connection))
    connection.ping()
    connection.leave(DRAIN, more_s=0)
    assert transport.take() == b""
    bench.pass_time(0.75)
    welcome, goaway, close = server_frames(transport.take())
    assert (welcome.payload, close.close_code) == (b"welcome", 1001)
    assert msgspec.json.decode(goaway.payload)["type"] == "goaway"
    transport.finish()
    assert bench.hub.leaving == 0


def test_the_first_message_is_compressed_where_that_was_agreed() -> None:
    bench = Bench("connections.compression=true", session=Greeting())
    transport = bench.accept()
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    transport.feed(request("good", protocols=[ECHO], headers=offer))
    answer = read_answer(transport.take())
    assert answer.status == 101
    assert answer.headers["sec-websocket-extensions"].startswith("permessage-deflate")
    bench.pass_time(0.75)
    assert [decompressed(frame) for frame in server_frames(transport.take())] == [b"welcome"]


def test_a_close_glued_to_the_request_ends_the_connection() -> None:
    bench = Bench()
    transport, answer = bench.ask(rest=client_frame(CLOSE, close_payload(1000)))
    assert [frame.close_code for frame in server_frames(answer.rest)] == [1000]
    assert transport.ended
    transport.finish()
    assert bench.hub.registry.total == 0
    assert bench.session.events == ["opened", "closed"]


def test_frames_of_a_peer_without_a_token_are_not_read() -> None:
    bench = Bench()
    transport, answer = bench.ask("wrong", client_frame(TEXT, b"hello") * 1000)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="heiwa", error="invalid_token"'
    transport.feed(client_frame(TEXT, b"hello"))
    assert bench.session.events == []


def test_a_token_without_a_scope_for_websockets() -> None:
    bench = Bench(authenticator=FakeAuthenticator(good=device("d", "a", "metrics:read")))
    _, answer = bench.ask()
    assert answer.status == 403
    assert b"location:write" in answer.body


def test_no_request_in_time_is_answered_with_408() -> None:
    bench = Bench("listen.handshake_timeout_s=10", "connections.close_timeout_s=2")
    transport = bench.accept()
    transport.feed(request("good")[:50])
    bench.pass_time(9.5)
    assert transport.take() == b""
    bench.pass_time(1)
    assert read_answer(transport.take()).status == 408
    assert transport.ended
    assert not transport.closing, "closing now would reset the answer away"
    bench.pass_time(2.5)
    assert transport.aborted
    transport.finish()
    assert bench.hub.admission.open == bench.hub.admission.pending == 0


def test_a_peer_that_goes_away_is_counted() -> None:
    bench = Bench()
    transport = bench.accept()
    transport.finish()
    assert bench.door.refusals == {(0, "gone"): 1}
    assert bench.hub.admission.open == bench.hub.admission.pending == 0


def test_other_paths_go_to_the_http_api() -> None:
    class Api(asyncio.Protocol):
        received = b""
        lost = False

        def data_received(self, data: bytes) -> None:
            self.received += data

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = True

    api = Api()
    bench = Bench()
    bench.door.http = lambda: api
    transport = bench.accept()
    first, second = b"POST /api HTTP/1.1\r\n\r", b"\nbody and more"
    transport.feed(first)
    transport.feed(second)
    assert api.received == first + second
    assert bench.hub.admission.http == bench.hub.admission.pending == 1, "nobody was authorised yet"
    assert bench.hub.admission.open == 1
    transport.finish()
    assert api.lost
    assert bench.hub.admission.open == 0


def test_without_an_http_api_other_paths_are_not_found() -> None:
    transport = Bench().accept()
    transport.feed(request("good", path="/other"))
    assert read_answer(transport.take()).status == 404


# Admission


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"draining": True}, "draining"), ({"memory_low": True}, "memory"), ({"maximum": 0}, "connections")],
)
def test_a_refusal_at_accept_is_told_when_the_request_is_there(change: dict[str, Any], reason: str) -> None:
    bench = Bench()
    bench.hub.admission = dataclasses.replace(bench.hub.admission, **change)
    transport = bench.accept()
    assert transport.take() == b""
    transport.feed(request("good", protocols=[ECHO]))
    answer = read_answer(transport.take())
    assert answer.status == 503
    assert 2 <= int(answer.headers["retry-after"]) <= 20
    assert bench.door.refusals == {(503, reason): 1}


def test_a_drain_that_begins_during_the_handshake_refuses_it() -> None:
    bench = Bench()
    transport = bench.accept()
    bench.hub.admission.draining = True
    transport.feed(request("good", protocols=[ECHO]))
    assert read_answer(transport.take()).status == 503
    assert bench.hub.registry.total == 0


def test_only_so_many_refused_peers_may_wait_with_their_files() -> None:
    bench = Bench("connections.file_reserve=8")
    bench.hub.admission.draining = True
    transports = [bench.accept() for _ in range(6)]
    answered = [bool(transport.take()) for transport in transports]
    assert answered == [True, True, False, False, False, False]


def test_a_flood_of_silent_peers_leaves_half_of_the_reserve() -> None:
    bench = Bench("connections.file_reserve=8", maximum=0)
    transports = []
    for _ in range(50):
        transports.append(bench.accept())
        for transport in [transport for transport in transports if transport.closing]:
            transport.finish()
            transports.remove(transport)
        assert len(transports) == bench.hub.admission.open <= 4
        assert bench.hub.admission.pending <= 4


def test_too_many_connections_of_an_account() -> None:
    bench = Bench(
        "connections.maximum_per_account=1",
        authenticator=FakeAuthenticator(a=device("a"), b=device("b"), other=device("a", "other")),
    )
    assert bench.ask("a")[1].status == 101
    answer = bench.ask("b")[1]
    assert answer.status == 429
    assert "retry-after" in answer.headers
    assert bench.ask("other")[1].status == 101


def test_a_flapping_device_is_held_off() -> None:
    bench = Bench("connections.flap_limit=3", "connections.flap_holdoff_s=30")
    for _ in range(3):
        transport, answer = bench.ask()
        assert answer.status == 101
        transport.finish()
    answer = bench.ask()[1]
    assert answer.status == 429
    assert 32 <= int(answer.headers["retry-after"]) <= 50
    bench.clock.advance(30)
    assert bench.ask()[1].status == 101


def test_devices_that_flap_together_do_not_come_back_together() -> None:
    names = [f"dev{number}" for number in range(100)]
    bench = Bench("connections.flap_limit=1", authenticator=FakeAuthenticator(**{name: device(name) for name in names}))
    told = []
    for name in names:
        assert bench.ask(name)[1].status == 101
        told.append(bench.ask(name)[1].headers["retry-after"])
    assert len(set(told)) > 10


# Phases


@pytest.mark.parametrize("talks", [False, True])
def test_after_a_mass_reconnect_pings_go_out_one_after_the_other(talks: bool) -> None:
    names = [f"dev{number}" for number in range(200)]
    bench = Bench(
        "connections.heartbeat_s=10", authenticator=FakeAuthenticator(**{name: device(name) for name in names})
    )
    open_now = [bench.ask(name)[0] for name in names]
    bench.pass_time(0.25)
    for transport in open_now:
        transport.take()
        if talks:
            transport.feed(client_frame(TEXT, b"what was stored"))
            transport.take()
    for _ in range(3):
        pinged = []
        for _ in range(40):
            bench.pass_time(0.25)
            pinged.append(0)
            for transport in open_now:
                if transport.take():
                    transport.feed(client_frame(PONG))
                    pinged[-1] += 1
        assert sum(pinged) == pytest.approx(200, abs=20)
        assert max(pinged) <= 20


# Duplicates


def test_the_newer_connection_wins() -> None:
    bench = Bench()
    first, _ = bench.ask()
    assert bench.ask()[1].status == 101
    bench.pass_time(0.75)
    assert _frames(first) == [TEXT, 4409]
    assert len(bench.hub.registry.rivals("acme", "dev-1")) == 2
    first.finish()
    found = bench.hub.registry.find("acme", "dev-1")
    assert found is not None
    assert bench.hub.registry.total == 1


def test_the_newer_connection_is_refused() -> None:
    bench = Bench("connections.duplicates=reject")
    first, _ = bench.ask()
    assert bench.ask()[1].status == 409
    first.finish()
    assert bench.ask()[1].status == 101


def test_both_connections_stay() -> None:
    bench = Bench("connections.duplicates=allow")
    first, _ = bench.ask()
    assert bench.ask()[1].status == 101
    assert first.take() == b""


@pytest.mark.parametrize("rule", ["replace", "reject"])
def test_readers_may_have_many_tabs(rule: str) -> None:
    bench = Bench(
        f"connections.duplicates={rule}",
        authenticator=FakeAuthenticator(good=device("browser", "acme", "progress:read")),
    )
    transports = [bench.ask()[0] for _ in range(3)]
    assert [transport.take() for transport in transports] == [b""] * 3
    assert bench.hub.registry.total == 3


@pytest.mark.parametrize("rule", ["replace", "reject"])
def test_a_reader_and_the_device_itself_do_not_disturb_each_other(rule: str) -> None:
    bench = Bench(
        f"connections.duplicates={rule}",
        authenticator=FakeAuthenticator(writer=device(), reader=device("dev-1", "acme", "progress:read")),
    )
    transports = [bench.ask(token)[0] for token in ("reader", "writer", "reader")]
    assert [transport.take() for transport in transports] == [b""] * 3
    assert bench.hub.registry.total == 3


# Behind a balancer


def _address(bench: Bench) -> str:
    found = bench.hub.registry.find("acme", "dev-1")
    assert found is not None
    return found.address


def test_forwarded_addresses_are_believed_from_trusted_proxies_only() -> None:
    for peer, expected in (("10.0.0.7", "203.0.113.5"), ("192.0.2.1", "192.0.2.1")):
        bench = Bench("listen.trusted_proxies=10.0.0.0/8")
        transport = bench.accept(peer)
        headers = [("X-Forwarded-For", "198.51.100.1, 203.0.113.5")]
        transport.feed(request("good", protocols=[ECHO], headers=headers))
        assert read_answer(transport.take()).status == 101
        assert _address(bench) == expected


PROXIED = ("listen.proxy_protocol=true", "listen.trusted_proxies=10.0.0.0/8")


def test_a_proxy_header_in_single_bytes_with_everything_glued() -> None:
    bench = Bench(*PROXIED)
    transport = bench.accept("10.0.0.7")
    data = b"PROXY TCP4 203.0.113.5 10.0.0.1 4000 443\r\n" + request("good", protocols=[ECHO])
    for byte in data:
        transport.feed(bytes((byte,)))
    assert read_answer(transport.take()).status == 101
    assert _address(bench) == "203.0.113.5"


@pytest.mark.parametrize("peer", ["10.0.0.7", "192.0.2.1"])
def test_without_a_proxy_header_nobody_comes_in(peer: str) -> None:
    bench = Bench(*PROXIED)
    transport = bench.accept(peer)
    transport.feed(request("good", protocols=[ECHO]))
    assert read_answer(transport.take()).status == 400


def test_a_proxy_header_from_anybody_else_is_not_believed() -> None:
    bench = Bench(*PROXIED)
    transport = bench.accept("192.0.2.1")
    transport.feed(b"PROXY TCP4 203.0.113.5 10.0.0.1 4000 443\r\n" + request("good", protocols=[ECHO]))
    assert read_answer(transport.take()).status == 400
    assert bench.hub.registry.total == 0


def test_a_slot_is_used_again_without_its_past() -> None:
    bench = Bench()
    transport, _ = bench.ask()
    slot = bench.session.connections[0].slot
    bench.hub.table.position_ms[slot] = 7
    transport.finish()
    bench.ask()
    assert bench.session.connections[1].slot == slot
    assert bench.hub.table.position_ms[slot] == 0
    assert bench.hub.registry.latest("acme", "dev-1") is None


def test_a_check_that_is_gone_before_its_address_is_known_is_no_refusal() -> None:
    bench = Bench("listen.proxy_protocol=true", "listen.trusted_proxies=10.0.0.0/8")
    transport = bench.accept("")
    transport.feed(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
    assert transport.aborted
    assert transport.take() == b""
    transport.finish()
    assert bench.door.refusals == {(0, "gone"): 1}


def test_an_error_of_ours_ends_one_handshake() -> None:
    class Broken(FakeAuthenticator):
        def verify(self, token: str) -> Identity:
            raise KeyError(token)

    bench = Bench(authenticator=Broken())
    transport = bench.accept()
    transport.feed(request("good", protocols=[ECHO]))
    assert transport.aborted
    transport.finish()
    assert bench.hub.admission.pending == bench.hub.admission.open == 0
