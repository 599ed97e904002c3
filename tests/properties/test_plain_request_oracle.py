"""Requests read directly against websockets' Sans-I/O layer: the same offer, or the same refusal, for any bytes."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.wire.handshake import V1, Policy, read_offer, read_unusual_offer
from gateway.wire.plain_request import read_plain_request
from tests.support.offers import outcome
from tests.support.wire import KEY

ORIGIN = "https://app.test"


def mostly(good: list[str], *bad: str) -> st.SearchStrategy[str]:
    """Five times in six a value that is right: a request with many values is hardly ever right otherwise."""
    return st.integers(0, 5).flatmap(lambda chance: st.sampled_from(good if chance else list(bad)))


usual = st.fixed_dictionaries(
    {
        "Host": st.just("gateway.test"),
        "Upgrade": mostly(["websocket", "WebSocket"], "websocket, h2c", "h2c", ""),
        "Connection": mostly(
            ["Upgrade", "keep-alive, Upgrade", "upgrade,close"],
            "close",
            "Upgrader",
            "a b",
            "a b, upgrade",
            "upgrade,",
            "",
        ),
        "Sec-WebSocket-Key": mostly([KEY], KEY[:-1], "AAAAAAAAAAAAAAAAAAAAAB==", "=" * 24, ""),
        "Sec-WebSocket-Version": mostly(["13"], "8", "13, 8", ""),
    },
    optional={
        "Authorization": st.sampled_from(["Bearer a.b.c", "bearer  a.b.c ", "Basic x", "Bearer"]),
        "Sec-WebSocket-Protocol": st.sampled_from(
            [V1, f"x, {V1}", f"heiwa.bearer.a.b.c,{V1}", "x", "x y", f"{V1},", ","]
        ),
        "Sec-WebSocket-Extensions": st.sampled_from(["permessage-deflate", "permessage-deflate; x=1", "x", "@"]),
        "Origin": st.sampled_from([ORIGIN, "https://evil.test"]),
        "X-Forwarded-For": st.sampled_from(["192.0.2.1", "192.0.2.1, 198.51.100.7"]),
        "Content-Length": st.sampled_from(["0", "1"]),
        "Transfer-Encoding": st.just("chunked"),
        "User-Agent": st.sampled_from(["ESP32 Websocket Client", "\tx\t", "\xe4", "x" * 4096]),
    },
)
edits = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 3),
        st.sampled_from([b"", b" ", b"\t", b"\r", b"\n", b":", b"\x00", b"\xff", b"a"]),
    ),
    max_size=2,
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that may be usual, odd or broken, and ends where a head ends."""
    lines = [f"{name}: {value}" for name, value in draw(usual).items()]
    lines = draw(st.permutations(lines)) if draw(st.booleans()) else lines
    lines += draw(st.one_of(st.just([]), st.just([]), st.sampled_from(lines).map(lambda line: [line])))
    first = draw(mostly(["GET /ws HTTP/1.1", "GET /ws?a=b HTTP/1.1"], "GET /ws HTTP/1.0", "POST /ws HTTP/1.1"))
    head = "\r\n".join([first, *lines]).encode("latin-1")
    for position, cut, put in draw(st.one_of(st.just([]), edits)):
        head = head[:position] + put + head[position + cut :]
    return head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@settings(max_examples=600)
@given(requests(), st.booleans())
def test_the_same_offer_or_the_same_refusal(head: bytes, compression: bool) -> None:
    policy = Policy((V1,), frozenset({ORIGIN}), 1000, compression)
    event("plain" if read_plain_request(head) else "left to the library")
    assert outcome(read_offer, head, policy) == outcome(read_unusual_offer, head, policy)


@pytest.mark.parametrize(
    "lines",
    [
        # What clients really send: websockets, a browser, ESP-IDF, Node's ws behind a load balancer.
        [
            "Host: h",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Version: 13",
        ],
        [
            "Host: h",
            "Connection: keep-alive, Upgrade",
            "Pragma: no-cache",
            "Upgrade: websocket",
            "Origin: https://app.test",
            "Sec-WebSocket-Version: 13",
            "Accept-Encoding: gzip, deflate, br",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            f"Sec-WebSocket-Protocol: {V1}, heiwa.bearer.a.b.c",
        ],
        [
            "User-Agent: ESP32 Websocket Client",
            "Host: h:443",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
        ],
        [
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-Proto: https",
            "Host: h",
            "sec-websocket-version: 13",
            f"sec-websocket-key: {KEY}",
            "connection: upgrade",
            "upgrade: websocket",
        ],
    ],
)
def test_what_clients_really_send_is_read_directly(lines: list[str]) -> None:
    head = "\r\n".join(["GET /ws HTTP/1.1", *lines, "", ""]).encode()
    assert read_plain_request(head) is not None
    policy = Policy((V1,), frozenset({ORIGIN}), 1000)
    assert outcome(read_offer, head, policy) == outcome(read_unusual_offer, head, policy)


def test_what_is_wrong_is_left_to_the_library() -> None:
    good = ["Host: h", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}"]
    good.append("Sec-WebSocket-Version: 13")
    for number, wrong in (
        (0, "Host : h"),
        (0, "Transfer-Encoding: chunked"),
        (0, "Content-Length: 0"),
        (0, "Upgrade: websocket"),
        (0, "Host: h\r\n folded"),
        (1, "Upgrade: h2c"),
        (2, "Connection: close"),
        (2, "Connection: Upgrader"),
        (2, "Connection: a b, upgrade"),
        (3, f"Sec-WebSocket-Key: {KEY[:-1]}"),
        (4, "Sec-WebSocket-Version: 8"),
    ):
        head = "\r\n".join(["GET /ws HTTP/1.1", *good[:number], wrong, *good[number + 1 :], "", ""]).encode()
        assert read_plain_request(head) is None, wrong
        policy = Policy((V1,), frozenset(), 1000)
        assert outcome(read_offer, head, policy) == outcome(read_unusual_offer, head, policy)
