"""The recording's format: what is written is read again, and a reader says what is wrong with anything else."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.errors import RecordingError
from gateway.recording.format import (
    OTHER,
    TYPES,
    VERSION,
    Connected,
    Disconnected,
    Dropped,
    Header,
    Line,
    Said,
    encode_lines,
    hashed,
    measure,
    read,
)

NAME = "0123456789abcdef"
HEADER = b'{"kind":"header","version":1}\n'
PING = b'{"kind":"message","at_ms":5,"device":"0123456789abcdef","connection":1,"type":"ping","bytes":15}\n'

_names = st.text("0123456789abcdef", min_size=16, max_size=16)
_numbers = st.integers(1, 2**40)
_moments = st.integers(0, 10**12)
_sizes = st.integers(0, 2**31)
lines = st.lists(
    st.one_of(
        st.builds(Connected, _moments, _names, _numbers, st.sampled_from(["", "esp-idf"])),
        st.builds(Disconnected, _moments, _names, _numbers, st.integers(1000, 4999)),
        st.builds(Said, _moments, _names, _numbers, st.sampled_from([*TYPES, OTHER]), _sizes, _sizes),
        st.builds(Dropped, _moments, _sizes),
    )
).map(lambda found: sorted(found, key=lambda line: line.at_ms))


def written(found: list[Line]) -> bytes:
    return encode_lines([Header(VERSION), *found])


@given(lines)
def test_what_is_written_is_read(found: list[Line]) -> None:
    assert list(read(io.BytesIO(written(found)), "x")) == found


@given(lines, st.data())
def test_a_cut_last_line_is_left_out(found: list[Line], data: st.DataObject) -> None:
    whole = written(found)
    cut = data.draw(st.integers(len(HEADER), len(whole)))
    back = list(read(io.BytesIO(whole[:cut]), "x"))
    assert back == found[: len(back)]
    assert len(back) >= whole[:cut].count(b"\n") - 1


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_garbage_is_refused_with_its_line(garbage: bytes) -> None:
    """Whatever stands in a line: it is understood, it is cut off at the end, or the error names it."""
    text = HEADER + PING + garbage.replace(b"\n", b" ") + b"\n" + PING
    with pytest.raises(RecordingError, match=r"^x, line 3: .*connect, disconnect, message, dropped"):
        list(read(io.BytesIO(text), "x"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "x is empty; the first line"),
        (PING, "line 1: .*the first line of a recording is"),
        (b"[" * 100_000, "line 1: "),
        (b'{"kind":"header","version":2}\n', "line 1: version 2 is not known; this program reads 1"),
        (HEADER + b"\n" + PING, "line 2: "),
        (HEADER + b"[" * 100_000 + b"\n", "line 2: "),
        (HEADER + PING + PING.replace(b":5,", b":4,"), "line 3: at_ms is 4, less than 5"),
        (HEADER + PING.replace(b"ping", b"x" * 65), "type"),
        (HEADER + PING.replace(b"0123", b"dog-"), "device"),
        (HEADER + PING.replace(b"}", b',"lat":1}'), "lat"),
        (HEADER + PING.replace(b":15", b":-1"), "bytes"),
        (HEADER + PING.replace(b'"message"', b'"position"'), "position"),
    ],
)
def test_what_is_wrong_is_said(text: bytes, said: str) -> None:
    with pytest.raises(RecordingError, match=said) as refused:
        list(read(io.BytesIO(text), "x"))
    assert refused.value.exit_code == 2


def test_a_device_has_one_name_for_each_key() -> None:
    key, other = b"k" * 32, b"o" * 32
    assert hashed(key, "acme", "dog-1") == hashed(key, "acme", "dog-1")
    distinct = {
        hashed(key, "acme", "dog-1"),
        hashed(other, "acme", "dog-1"),
        hashed(key, "ac", "medog-1"),
        hashed(key, "", "acmedog-1"),
    }
    assert len(distinct) == 4
    assert all(len(name) == 16 for name in distinct)


@pytest.mark.parametrize(
    ("message", "kind", "events"),
    [
        ({"type": "location", "id": "1"}, "location", 1),
        ({"type": "locations", "events": [{}, {}, 3]}, "locations", 3),
        ({"type": "locations", "events": 3}, OTHER, 0),
        ({"type": "ping"}, "ping", 0),
        ({"type": "auth", "token": "t"}, "auth", 0),
        ({"type": "eyJhbGciOiJIUzI1NiJ9"}, OTHER, 0),
        ({"type": 3}, OTHER, 0),
        ([], OTHER, 0),
    ],
)
def test_a_message_is_measured(message: object, kind: str, events: int) -> None:
    assert measure(json.dumps(message).encode()) == (kind, events)


@given(st.binary())
def test_anything_can_be_measured(payload: bytes) -> None:
    """Whatever is no message of a known type. Those that are (hypothesis finds them) are measured above."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        message = None
    assume(not (isinstance(message, dict) and message.get("type") in TYPES))
    assert measure(payload) == (OTHER, 0)
