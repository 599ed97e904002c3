"""Devices whose token names no class, and what their class may offer unasked."""

from __future__ import annotations

import pytest

from gateway.wire.handshake import V1
from tests.support.bench import Bench, FakeAuthenticator, device
from tests.support.wire import (
    Answer,
    read_answer,
    request,
)


def _open_as(bench: Bench, agent: str, token: str = "good", protocols: tuple[str, ...] = ()) -> Answer:
    transport = bench.accept()
    transport.feed(request(token, protocols=protocols, headers=[("User-Agent", agent)]))
    return read_answer(transport.take())


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("ESP32 Websocket Client", "esp-idf"),
        ("ESP32 Websocket Client/2", "esp-idf"),
        ("arduino-WebSocket-Client", "arduino"),
        ("TinyWebsockets Client", "tiny"),
        ("Mozilla/5.0 (ESP32 Websocket Client)", ""),
        ("", ""),
    ],
)
def test_a_token_without_a_class_gets_that_of_its_user_agent(agent: str, name: str) -> None:
    bench = Bench(protocols=(V1,))
    assert _open_as(bench, agent).status == 101
    assert bench.session.connections[0].profile.device_class == name


def test_the_class_of_the_token_counts_more() -> None:
    bench = Bench(protocols=(V1,), authenticator=FakeAuthenticator(good=device(device_class="lorry")))
    assert _open_as(bench, "ESP32 Websocket Client").status == 101
    assert bench.session.connections[0].profile.device_class == "lorry"


@pytest.mark.parametrize(("agent", "status"), [("arduino-WebSocket-Client", 101), ("ESP32 Websocket Client", 400)])
def test_a_class_may_offer_a_subprotocol_of_its_own(agent: str, status: int) -> None:
    answer = _open_as(Bench(protocols=(V1,)), agent, protocols=("arduino",))
    assert answer.status == status
    assert "sec-websocket-protocol" not in answer.headers
