"""The lean websocket: what it writes, and what it makes of what a server sends, however that is cut up."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from loadtest.fleet import device as module
from loadtest.fleet.device import (
    ACCEPT,
    CONNECTING,
    LEAVING,
    OPEN,
    OPENING,
    REFUSED,
    DeviceConnection,
    fields,
    masked_frame,
    request,
)
from loadtest.scenario.client_models import CLIENT_MODELS, ClientModel
from tests.support.fleet_world import ACCEPTED, frame

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}"


class Wire:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = ""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"

    def get_extra_info(self, _: str) -> None:
        return None


class Owner:
    def __init__(self, client_model: str = "patient") -> None:
        self.client_model = CLIENT_MODELS[client_model]
        self.heard_s = array("d", [0.0])
        self.now_s = 5.0
        self.told: list[tuple[Any, ...]] = []

    def on_opened(self, device: DeviceConnection) -> None: ...

    def on_text(self, device: DeviceConnection, payload: bytes) -> None:
        self.told.append(("text", payload))

    def client_model_of(self, device: DeviceConnection) -> ClientModel:
        return self.client_model

    def on_refused(self, device: DeviceConnection, status: int, retry_after_s: float | None) -> None:
        self.told.append(("refused", status, retry_after_s))

    def on_ended(self, device: DeviceConnection) -> None:
        self.told.append(("ended", device.code, device.clean, device.ours))


def connected(*data: bytes, opened: bool = True, client_model: str = "patient") -> tuple[DeviceConnection, Wire, Owner]:
    owner, wire = Owner(client_model), Wire()
    device = DeviceConnection(owner, 0, b"GET")
    device.connection_made(wire)  # type: ignore[arg-type]
    assert wire.written == b"GET"
    wire.written = b""
    if opened:
        device.data_received(ACCEPTED)
        device.state = OPEN
    for part in data:
        device.data_received(part)
    return device, wire, owner


def test_the_answer_opens_it() -> None:
    device, _, owner = connected(opened=False)
    assert device.state == CONNECTING
    device.data_received(ACCEPTED)
    assert device.state == OPENING
    assert owner.told == []
    assert owner.heard_s[0] == 5.0


def test_a_real_server_takes_the_request() -> None:
    server = ServerProtocol(subprotocols=["heiwa.v1.json"])  # type: ignore[list-item]
    server.receive_data(request("/ws?a=b", "[::1]:8080", "a.b.c", "heiwa.v1.json"))
    found = server.events_received()[0]
    assert (found.path, found.headers["Authorization"]) == ("/ws?a=b", "Bearer a.b.c")  # type: ignore[union-attr]
    server.send_response(server.accept(found))  # type: ignore[arg-type]
    device, _, owner = connected(b"".join(server.data_to_send()), opened=False)
    assert device.state == OPENING
    assert owner.told == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (REFUSAL, ("refused", 503, 7)),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", ("refused", 401, None)),
        (ACCEPTED.replace(ACCEPT, b"wrong"), ("refused", 0, None)),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", ("refused", 0, None)),
        (b"x" * 20_000, ("refused", 0, None)),
    ],
)
def test_any_other_answer_is_a_refusal(answer: bytes, told: tuple[Any, ...]) -> None:
    device, wire, owner = connected(answer, opened=False)
    assert owner.told == [told]
    assert (device.state, wire.ended) == (REFUSED, "close")
    device.connection_lost(None)
    assert owner.told == [told]


def test_no_answer_is_a_refusal() -> None:
    device, _, owner = connected(b"HTTP/1.1 101", opened=False)
    device.connection_lost(None)
    assert owner.told == [("refused", 0, None)]


payloads = st.one_of(st.binary(max_size=300), st.integers(125, 127).map(bytes), st.just(bytes(70_000)))
frames = st.lists(st.tuples(st.sampled_from([0x81, 0x81, 0x89, 0x8A]), payloads), max_size=8)


@given(frames, st.lists(st.integers(1, 200), max_size=50), st.booleans())
def test_frames_are_the_same_however_they_arrive(sent: list[tuple[int, bytes]], sizes: list[int], glued: bool) -> None:
    sent = [(first, payload if first == 0x81 else payload[:125]) for first, payload in sent]
    stream = b"".join(frame(payload, first) for first, payload in sent)
    cuts = [0]
    for size in sizes:
        cuts.append(min(len(stream), cuts[-1] + size))
    parts = [stream[start:end] for start, end in zip(cuts, [*cuts[1:], len(stream)], strict=True)]
    device, wire, owner = connected(opened=False)
    for part in [ACCEPTED + parts[0], *parts[1:]] if glued else [ACCEPTED, *parts]:
        device.data_received(part)
    assert owner.told == [("text", payload) for first, payload in sent if first == 0x81]
    assert wire.written == b"".join(masked_frame(payload, 0x8A) for first, payload in sent if first == 0x89)


@given(st.binary(max_size=70_000))
def test_a_real_server_reads_what_it_writes(payload: bytes) -> None:
    server = ServerProtocol(state=State.OPEN)
    server.receive_data(masked_frame(payload, 0x82))
    (frame,) = server.events_received()
    assert bytes(frame.data) == payload  # type: ignore[union-attr]


def test_a_close_frame_is_answered_and_remembered() -> None:
    device, wire, owner = connected(frame(b"\x03\xf4bye", 0x88))
    assert wire.written == masked_frame(b"\x03\xf4", 0x88)
    assert device.state == LEAVING
    device.send(b"{}")
    device.connection_lost(None)
    assert owner.told == [("ended", 1012, True, False)]
    assert wire.written == masked_frame(b"\x03\xf4", 0x88)


def test_a_close_frame_without_a_code() -> None:
    device, _, owner = connected(frame(b"", 0x88))
    device.connection_lost(None)
    assert owner.told == [("ended", 1005, True, False)]


def test_a_break_has_no_code() -> None:
    device, _, owner = connected()
    device.connection_lost(ConnectionResetError())
    assert owner.told == [("ended", 1006, False, False)]


@pytest.mark.parametrize(
    ("leaves", "data", "abnormal"),
    [
        (False, b"", True),
        (False, frame(b"\x03\xf4", 0x88), False),
        (True, b"", True),
        (True, frame(b"\x03\xe8", 0x88), False),
    ],
)
def test_an_end_without_a_close_frame_of_the_server_is_abnormal(leaves: bool, data: bytes, abnormal: bool) -> None:
    device, _, _ = connected()
    if leaves:
        device.leave()
    device.data_received(data)
    device.connection_lost(None)
    assert device.abnormal is abnormal


@pytest.mark.parametrize("ours", [False, True])
def test_a_device_that_breaks_off_wanted_no_close_frame(ours: bool) -> None:
    device, wire, _ = connected()
    device.break_off(ours=ours)
    assert wire.ended == "abort"
    device.connection_lost(None)
    assert device.abnormal is not ours


def test_leaving_still_reads_acks() -> None:
    device, wire, owner = connected()
    device.leave()
    device.leave()
    device.data_received(frame(b"ack") + frame(b"\x03\xe8", 0x88))
    device.connection_lost(None)
    assert wire.written == masked_frame(b"\x03\xe8", 0x88)
    assert owner.told == [("text", b"ack"), ("ended", 1000, False, True)]


@pytest.mark.parametrize(
    "data",
    [
        frame(b"x", 0x82),
        frame(b"x", 0x01),
        masked_frame(b"x"),
        b"\x81\x7f" + (1 << 40).to_bytes(8, "big"),
    ],
)
def test_what_no_gateway_sends_ends_it(data: bytes) -> None:
    device, wire, owner = connected(data)
    assert wire.ended == "close"
    device.connection_lost(None)
    assert owner.told == [("ended", 1002, False, False)]


def test_an_idle_device_is_small() -> None:
    device, _, _ = connected()
    assert not hasattr(device, "__dict__")
    assert device.__sizeof__() <= 88
    assert device._buffer == b""


def test_a_device_that_never_connected_can_be_broken_off() -> None:
    device = DeviceConnection(Owner(), 0, b"GET")
    device.break_off()
    device.leave()
    device.send(b"x")
    assert device.state == module.CONNECTING


def test_headers_are_found_whatever_their_case() -> None:
    head = b"HTTP/1.1 503 No\r\nDate: x\r\nRETRY-after:  12 \r\n"
    assert fields(head, b"retry-after") == ["12"]
    assert fields(head, b"server") == []


def test_some_clients_lose_what_comes_in_the_packet_of_the_answer() -> None:
    welcome = frame(b"welcome")
    _, _, owner = connected(ACCEPTED + welcome, opened=False)
    assert owner.told == [("text", b"welcome")]
    _, _, owner = connected(ACCEPTED + welcome, welcome, opened=False, client_model="esp-idf-15s")
    assert owner.told == [("text", b"welcome")]


def test_some_clients_close_for_a_frame_that_is_too_long() -> None:
    most = CLIENT_MODELS["arduino"].receive_bytes
    device, wire, owner = connected(frame(b"x" * most), client_model="arduino")
    assert (len(owner.told), wire.ended) == (1, "")
    device.data_received(frame(b"x" * (most + 1)) + frame(b"after"))
    assert (len(owner.told), wire.ended, device.state, device.ours) == (1, "close", LEAVING, True)
    assert wire.written == masked_frame(b"\x03\xf1", 0x88)
    device.connection_lost(None)
    assert owner.told[-1] == ("ended", 1009, False, True)


def test_some_clients_understand_no_message_that_is_longer_than_their_buffer() -> None:
    _, wire, owner = connected(frame(b"x" * 1024), frame(b"y" * 1025), frame(b"z"), client_model="esp-idf")
    assert owner.told == [("text", b"x" * 1024), ("text", b"z")]
    assert (wire.written, wire.ended) == (b"", "")


@pytest.mark.parametrize("name", list(CLIENT_MODELS))
def test_a_real_server_takes_the_request_of_every_client_model(name: str) -> None:
    client_model = CLIENT_MODELS[name]
    server = ServerProtocol()
    server.receive_data(
        request("/ws", "[::1]:8080", "a.b.c", client_model.subprotocol or "heiwa.v1.json", client_model.header)
    )
    (found,) = server.events_received()
    assert isinstance(found, Request)
    assert found.headers["Authorization"] == "Bearer a.b.c"
    assert len(found.headers.get_all("Origin")) == ("Origin" in client_model.header)
    assert server.accept(found).status_code == 101


def test_some_clients_overlook_a_ping_without_a_payload() -> None:
    empty, full = frame(b"", 0x89), frame(b"x", 0x89)
    _, wire, _ = connected(empty, full, client_model="zephyr")
    assert wire.written == masked_frame(b"x", 0x8A)
    _, wire, _ = connected(empty, full)
    assert wire.written == masked_frame(b"", 0x8A) + masked_frame(b"x", 0x8A)
