"""The opening handshake: which requests are offers, and how the others are refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gateway.wire.handshake import (
    MAX_REQUEST_BYTES,
    V1,
    Offer,
    Policy,
    Rejected,
    find_end,
    is_websocket_path,
    read_offer,
    read_unusual_offer,
)
from tests.support.wire import TEXT, client_frame, read_answer, request

POLICY = Policy((V1, "heiwa.v2.json"), frozenset({"https://app.test"}), 1000)
SECRET = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def _refusal(data: bytes, policy: Policy = POLICY) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read_offer(data, policy)
    return caught.value


# The request's head


def test_the_end_of_the_head() -> None:
    head = request()
    assert find_end(head) == len(head)
    assert find_end(head + client_frame(TEXT, b"\r\n\r\n")) == len(head)
    assert all(find_end(head[:cut]) == 0 for cut in range(len(head)))


def test_a_head_as_large_as_allowed() -> None:
    head = request(headers=[("X-Pad", "")])
    padding = "x" * (MAX_REQUEST_BYTES - len(head))
    assert find_end(request(headers=[("X-Pad", padding)])) == MAX_REQUEST_BYTES
    with pytest.raises(Rejected) as caught:
        find_end(request(headers=[("X-Pad", padding + "x")]))
    assert caught.value.status == 431


@pytest.mark.parametrize("data", [b"x" * MAX_REQUEST_BYTES, request()[:-2] + b"x" * MAX_REQUEST_BYTES])
def test_a_head_without_an_end(data: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        find_end(data)
    assert caught.value.status == 431


def test_ten_thousand_headers() -> None:
    many = request(headers=[(f"X-{number}", "") for number in range(10_000)])
    with pytest.raises(Rejected) as caught:
        find_end(many)
    assert caught.value.status == 431


def test_more_headers_than_the_library_takes() -> None:
    many = request(headers=[(f"X-{number}", "") for number in range(200)])
    assert find_end(many) == len(many)
    assert _refusal(many).status == 431


def test_a_long_request_line() -> None:
    assert _refusal(request(path="/ws?" + "x" * 9000)).status in (400, 414)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET /ws HTTP/1.1", True),
        (b"GET /ws?token=1 HTTP/1.1", True),
        (b"GET http://gateway.test/ws HTTP/1.1", True),
        (b"GET WS://gateway.test:8080/ws?token=1 HTTP/1.1", True),
        (b"GET http://gateway.test/livez HTTP/1.1", False),
        (b"GET http://gateway.test HTTP/1.1", False),
        (b"GET ftp://gateway.test/ws HTTP/1.1", False),
        (b"GET gateway.test/ws HTTP/1.1", False),
        (b"GET /ws/ HTTP/1.1", False),
        (b"GET /wsx HTTP/1.1", False),
        (b"GET / HTTP/1.1", False),
        (b"GET", False),
        (b"", False),
    ],
)
def test_the_path(line: bytes, expected: bool) -> None:
    assert is_websocket_path(line + b"\r\n\r\n") is expected


# Subprotocols (protocol.md)


def _subprotocol(*offered: str) -> str:
    return read_offer(request(protocols=offered), POLICY).subprotocol


def test_a_client_that_offers_none_gets_v1() -> None:
    offer = read_offer(request(), POLICY)
    assert offer.subprotocol == V1
    answer = offer.answer
    assert "sec-websocket-protocol" not in read_answer(answer).headers


@pytest.mark.parametrize("value", ["", " ", ","])
@pytest.mark.parametrize("unusual", [False, True])
def test_an_empty_header_offers_none(value: str, unusual: bool) -> None:
    data = request(SECRET, headers=[("Sec-WebSocket-Protocol", value)])
    offer = (read_unusual_offer if unusual else read_offer)(data, POLICY)
    assert (offer.subprotocol, offer.token) == (V1, SECRET)
    assert "sec-websocket-protocol" not in read_answer(offer.answer).headers


def test_our_order_decides() -> None:
    assert _subprotocol("other", "heiwa.v2.json") == "heiwa.v2.json"
    assert _subprotocol("heiwa.v2.json", V1) == V1


@pytest.mark.parametrize("offered", [["other"], ["heiwa.v9.json", "x"], [f"heiwa.bearer.{SECRET}"]])
def test_only_unknown_ones_or_only_a_token(offered: list[str]) -> None:
    refusal = _refusal(request(protocols=offered))
    assert refusal.status == 400
    assert json.loads(read_answer(refusal.response()).body)["served"] == [V1, "heiwa.v2.json", "heiwa.bearer.<JWT>"]


def test_several_headers_are_one_list() -> None:
    data = request(protocols=["other"]).replace(b"\r\n\r\n", f"\r\nSec-WebSocket-Protocol: {V1}\r\n\r\n".encode())
    assert read_offer(data, POLICY).subprotocol == V1


# Where the token is


def test_the_token_in_a_header() -> None:
    assert read_offer(request(SECRET), POLICY).token == SECRET
    for spelling in ("bearer", "BEARER"):
        assert read_offer(request(headers=[("Authorization", f"{spelling}  {SECRET} ")]), POLICY).token == SECRET


def test_the_token_in_a_subprotocol_is_never_in_the_answer() -> None:
    offer = read_offer(request(protocols=[f"heiwa.bearer.{SECRET}", V1]), POLICY)
    assert offer.token == SECRET
    answer = offer.answer
    assert read_answer(answer).headers["sec-websocket-protocol"] == V1
    assert SECRET.encode() not in answer


@pytest.mark.parametrize("headers", [[("Authorization", f"Basic {SECRET}")], []])
def test_no_token(headers: list[tuple[str, str]]) -> None:
    assert read_offer(request(headers=headers), POLICY).token is None


def test_two_authorizations_are_none() -> None:
    data = request(SECRET).replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer other\r\n\r\n")
    assert read_offer(data, POLICY).token is None


@pytest.mark.parametrize(
    "data",
    [
        request(protocols=[V1, f"heiwa.bearer.{SECRET}="]),
        request(protocols=[V1, f"heiwa.bearer.{SECRET}", "not a token"]),
        request(protocols=[f"heiwa.bearer.{SECRET}"]),
        request(headers=[("Authorization", f"Bearer {SECRET}\x01")]),
        request(headers=[(f"Author\x01ization: {SECRET}", "x")]),
        request(path=f"/ws?{SECRET} x"),
        request(SECRET, without=["Upgrade"]),
        request(SECRET, method="POST"),
        request(protocols=[V1, f"heiwa.bearer.{SECRET}"], headers=[("Origin", "https://evil.test")]),
        request(SECRET, protocols=[V1, f"heiwa.bearer.{SECRET}"]),
        request(SECRET, without=["Host"]),
    ],
)
def test_a_refusal_never_repeats_the_token(data: bytes) -> None:
    refusal = _refusal(data)
    assert SECRET.encode() not in refusal.response()
    assert 400 <= refusal.status < 500


# Refusals


def _headers(refusal: Rejected) -> dict[str, str]:
    return read_answer(refusal.response()).headers


@pytest.mark.parametrize("missing", ["Upgrade", "Connection"])
def test_a_plain_request(missing: str) -> None:
    refusal = _refusal(request(without=[missing]))
    assert refusal.status == 426
    assert _headers(refusal)["sec-websocket-version"] == "13"
    assert _headers(refusal)["upgrade"] == "websocket"


@pytest.mark.parametrize("value", ["h2c", "websocket, h2c"])
def test_another_upgrade(value: str) -> None:
    assert _refusal(request(headers=[("Upgrade", value)])).status == 426


@pytest.mark.parametrize("version", ["8", "14", "x"])
def test_another_version(version: str) -> None:
    refusal = _refusal(request(headers=[("Sec-WebSocket-Version", version)]))
    assert refusal.status == 400
    assert _headers(refusal)["sec-websocket-version"] == "13"


@pytest.mark.parametrize("key", ["", "short", "dGhlIHNhbXBsZSBub25jZQ=", "!" * 24])
def test_a_bad_key(key: str) -> None:
    assert _refusal(request(headers=[("Sec-WebSocket-Key", key)])).status == 400


def test_another_method() -> None:
    refusal = _refusal(request(method="POST"))
    assert refusal.status == 405
    assert _headers(refusal)["allow"] == "GET"


def test_an_old_http() -> None:
    assert 400 <= _refusal(request().replace(b"HTTP/1.1", b"HTTP/1.0")).status < 600


def test_a_body_is_refused() -> None:
    assert _refusal(request(headers=[("Content-Length", "5")])).status == 400


@pytest.mark.parametrize("origins", [["https://evil.test"], ["null"], ["https://app.test", "https://app.test"], [""]])
def test_a_foreign_origin(origins: list[str]) -> None:
    lines = "".join(f"\r\nOrigin: {origin}" for origin in origins).encode()
    assert _refusal(request().replace(b"\r\n\r\n", lines + b"\r\n\r\n")).status == 403


@pytest.mark.parametrize("origin", ["file://", "https://github.com/x", "http://gateway.test:8080", "null", ""])
def test_the_origin_is_not_looked_at_where_the_token_is_in_the_header(origin: str) -> None:
    for data in (request(SECRET, headers=[("Origin", origin)]), request(SECRET, headers=[("Origin", origin)] * 2)):
        assert read_offer(data, POLICY).token == SECRET


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Bearer2"])
def test_another_scheme_does_not_stand_for_a_token_in_the_header(scheme: str) -> None:
    offered = [V1, f"heiwa.bearer.{SECRET}"]
    authorization = ("Authorization", f"{scheme} dXNlcjpwYXNz")
    assert read_offer(request(protocols=offered, headers=[authorization]), POLICY).token == SECRET
    foreign = request(protocols=offered, headers=[authorization, ("Origin", "https://evil.test")])
    assert _refusal(foreign).status == 403


def test_a_token_in_both_places_is_refused() -> None:
    refusal = _refusal(request(SECRET, protocols=[V1, "heiwa.bearer.other"]))
    assert (refusal.status, refusal.reason) == (400, "token")


@pytest.mark.parametrize("without", [True, False])
def test_exactly_one_host(without: bool) -> None:
    data = request(without=["Host"]) if without else request().replace(b"\r\n\r\n", b"\r\nHost: other\r\n\r\n")
    refusal = _refusal(data)
    assert (refusal.status, refusal.reason) == (400, "host")


# Subprotocols that some devices offer unasked


TOLERANT = dataclasses.replace(POLICY, tolerated=frozenset(("arduino",)))


def test_a_tolerated_subprotocol_is_like_none() -> None:
    offer = read_offer(request(protocols=["arduino"]), TOLERANT)
    assert (offer.subprotocol, offer.unasked) == (V1, "arduino")
    assert "sec-websocket-protocol" not in read_answer(offer.answer).headers
    assert read_offer(request(protocols=["arduino", V1]), TOLERANT).unasked == ""


@pytest.mark.parametrize("offered", [["arduino", "other"], ["arduino", "arduino"], ["arduino", "heiwa.bearer.x"]])
def test_a_tolerated_subprotocol_has_to_be_alone(offered: list[str]) -> None:
    assert _refusal(request(protocols=offered), TOLERANT).reason == "subprotocol"


def test_our_own_origin() -> None:
    assert isinstance(read_offer(request(headers=[("Origin", "https://app.test")]), POLICY), Offer)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01 /ws\r\n\r\n", b"GET /ws\r\n\r\n", b"GET /ws HTTP/1.1\r\nno colon\r\n\r\n"]
)
def test_what_is_not_http(data: bytes) -> None:
    assert _refusal(data).status == 400


def test_a_refusal_is_a_whole_problem() -> None:
    answer = read_answer(Rejected(429, "account", "too many – wait", {"Retry-After": "5"}, {"more": 1}).response())
    assert answer.status == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["retry-after"] == "5"
    assert answer.rest == b""
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "too many – wait",
        "more": 1,
    }


# Extensions


@pytest.mark.parametrize(("compression", "agreed"), [(True, True), (False, False)])
def test_compression(compression: bool, agreed: bool) -> None:
    policy = Policy((V1,), frozenset(), 1000, compression)
    offer = read_offer(request(headers=[("Sec-WebSocket-Extensions", "permessage-deflate")]), policy)
    answer, protocol = offer.answer, offer.protocol
    assert ("sec-websocket-extensions" in read_answer(answer).headers) is agreed
    assert (protocol is not None) is agreed


def test_forwarded_addresses_are_one_list() -> None:
    data = request(headers=[("X-Forwarded-For", "a, b")]).replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: c\r\n\r\n")
    assert read_offer(data, POLICY).forwarded_for == "a, b,c"
