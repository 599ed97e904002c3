"""The Sans-I/O layer with UTF-8 checked over fragments, and their number bounded."""

from __future__ import annotations

import pytest

from gateway.wire.inflated import MIN_FRAGMENTS, Inflated, Step
from tests.support.wire import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    server_frames,
)


def _feed(inflated: Inflated, data: bytes) -> list[bytes]:
    """Feed everything; the messages that came out."""
    messages, position = [], 0
    while position < len(data):
        step = inflated.receive(data, position)
        position = step.position
        if step.message is not None:
            messages.append(step.message)
    return messages


def _answers(inflated: Inflated) -> tuple[list[Frame], bool]:
    data, ends = inflated.output()
    return server_frames(data), ends


def test_one_frame_at_a_time() -> None:
    inflated = Inflated(1000)
    first, second = client_frame(TEXT, b"a"), client_frame(TEXT, b"b")
    assert inflated.receive(first + second, 0) == Step(len(first), b"a", True)
    assert inflated.receive(first + second, len(first)) == Step(len(first + second), b"b", True)


@pytest.mark.parametrize("text", ["平和", "é", "😀", "a\u0800b"])
def test_characters_over_fragments(text: str) -> None:
    payload = text.encode()
    for cut in range(len(payload) + 1):
        inflated = Inflated(1000)
        frames = client_frame(TEXT, payload[:cut], final=False) + client_frame(CONT, payload[cut:])
        assert _feed(inflated, frames) == [payload]
        assert inflated.at_rest


@pytest.mark.parametrize("payload", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"])
@pytest.mark.parametrize("cut", [None, 0, 1])
def test_text_that_is_not_utf8(payload: bytes, cut: int | None) -> None:
    inflated = Inflated(1000)
    if cut is None:
        data = client_frame(TEXT, payload)
    else:
        data = client_frame(TEXT, payload[:cut], final=False) + client_frame(CONT, payload[cut:])
    assert _feed(inflated, data + client_frame(TEXT, b"never read")) == []
    (close,), ends = _answers(inflated)
    assert (close.close_code, ends) == (1007, True)


def test_a_bad_fragment_fails_before_the_last_one() -> None:
    inflated = Inflated(1000)
    _feed(inflated, client_frame(TEXT, b"\xff", final=False))
    (close,), _ = _answers(inflated)
    assert close.close_code == 1007


def test_a_message_after_a_fragmented_one_starts_anew() -> None:
    inflated = Inflated(1000)
    data = client_frame(TEXT, b"a", final=False) + client_frame(CONT, b"b")
    assert _feed(inflated, data * 2 + client_frame(TEXT, "é".encode())) == [b"ab", b"ab", "é".encode()]


def test_binary_is_a_kind_of_its_own_and_need_not_be_utf8() -> None:
    inflated = Inflated(1000)
    step = inflated.receive(client_frame(BINARY, b"\xff"), 0)
    assert (step.message, step.binary) == (b"\xff", True)
    assert _feed(inflated, client_frame(BINARY, b"\xff", final=False) + client_frame(CONT, b"\xfe")) == [b"\xff\xfe"]
    step = inflated.receive(client_frame(TEXT, b"a"), 0)
    assert (step.message, step.binary) == (b"a", False)
    assert inflated.at_rest


def test_as_many_fragments_as_allowed_and_one_more() -> None:
    inflated = Inflated(100_000)
    begin, more = client_frame(TEXT, b"a", final=False), client_frame(CONT, b"", final=False)
    assert _feed(inflated, begin + more * (MIN_FRAGMENTS - 2) + client_frame(CONT, b"b")) == [b"ab"]
    assert _feed(inflated, begin + more * (MIN_FRAGMENTS - 1)) == []
    assert inflated.midway
    assert _feed(inflated, client_frame(CONT, b"b")) == []
    (close,), ends = _answers(inflated)
    assert (close.close_code, ends) == (1009, True)


def test_an_empty_fragment_is_told_apart() -> None:
    inflated = Inflated(1000)
    assert inflated.receive(client_frame(TEXT, b"", final=False), 0).empty
    assert not inflated.receive(client_frame(CONT, b"a", final=False), 0).empty
    assert inflated.receive(client_frame(CONT, b"", final=False), 0).empty
    assert not inflated.receive(client_frame(PING, b""), 0).empty
    assert not inflated.receive(client_frame(CONT, b""), 0).empty


def test_control_frames_between_fragments() -> None:
    inflated = Inflated(1000)
    _feed(inflated, client_frame(TEXT, b"a", final=False) + client_frame(PING, b"?") + client_frame(PONG, b"!"))
    assert _answers(inflated) == ([Frame(PONG, b"?")], False)
    assert not inflated.at_rest
    assert _feed(inflated, client_frame(CONT, b"b")) == [b"ab"]


def test_a_message_too_large_over_fragments() -> None:
    inflated = Inflated(1000)
    _feed(inflated, client_frame(TEXT, b"x" * 600, final=False) + client_frame(CONT, b"x" * 401))
    (close,), ends = _answers(inflated)
    assert (close.close_code, ends) == (1009, True)


@pytest.mark.parametrize("body", [b"", close_payload(1000), close_payload(4000, "平和".encode())])
def test_the_peer_closes(body: bytes) -> None:
    inflated = Inflated(1000)
    _feed(inflated, client_frame(CLOSE, body))
    assert _answers(inflated) == ([Frame(CLOSE, body)], True)
    assert inflated.closed_by_peer
    assert inflated.close_code == (int.from_bytes(body[:2], "big") or 1005)
    assert not inflated.open


def test_we_close_and_the_peer_answers() -> None:
    inflated = Inflated(1000)
    inflated.send_close(1012, "drain")
    assert _answers(inflated) == ([Frame(CLOSE, close_payload(1012, b"drain"))], False)
    _feed(inflated, client_frame(TEXT, b"still on its way") + client_frame(PING, b"?"))
    assert _answers(inflated) == ([Frame(PONG, b"?")], False)
    _feed(inflated, client_frame(CLOSE, close_payload(1012)))
    assert _answers(inflated) == ([], True)
    assert (inflated.close_code, inflated.closed_by_peer) == (1012, False)


def test_we_fail_and_listen_no_more() -> None:
    inflated = Inflated(1000)
    inflated.fail(4429, "too fast")
    assert _answers(inflated) == ([Frame(CLOSE, close_payload(4429, b"too fast"))], True)
    assert _feed(inflated, client_frame(PING, b"?") + client_frame(TEXT, b"a")) == []
    assert _answers(inflated) == ([], False)


def test_closing_twice_is_closing_once() -> None:
    inflated = Inflated(1000)
    inflated.send_close(1012, "")
    inflated.send_close(1001, "")
    inflated.fail(1011, "")
    frames, _ = _answers(inflated)
    assert [frame.close_code for frame in frames] == [1012]


def test_a_close_within_a_fragmented_message_is_an_error() -> None:
    inflated = Inflated(1000)
    _feed(inflated, client_frame(TEXT, b"a", final=False) + client_frame(CLOSE, close_payload(1000)))
    (close,), _ = _answers(inflated)
    assert close.close_code == inflated.close_code == 1002
    assert not inflated.closed_by_peer


def test_it_is_at_rest_between_messages_only() -> None:
    inflated = Inflated(1000)
    frame = client_frame(TEXT, b"x" * 300)
    for position in range(len(frame)):
        step = inflated.receive(frame[position : position + 1], 0)
        # `at_rest` may be asked only when a whole frame was used: an empty read buffer proves nothing.
        assert step.whole == (position == len(frame) - 1)
    assert inflated.at_rest


def test_without_an_end_the_code_is_1006() -> None:
    inflated = Inflated(1000)
    inflated.receive_eof()
    assert inflated.close_code == 1006
    assert not inflated.open


def test_each_message_has_its_own_fragments() -> None:
    inflated = Inflated(100_000)
    message = client_frame(TEXT, b"a", final=False) + client_frame(CONT, b"", final=False) * 600 + client_frame(CONT)
    assert _feed(inflated, message * 3) == [b"a"] * 3
