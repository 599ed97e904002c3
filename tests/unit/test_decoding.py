"""JSON of a peer: one kind of error, whatever is wrong."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding import decoder, object_in, standard_json


class Thing(msgspec.Struct):
    name: str = ""


read = decoder(Thing)


def test_what_is_right() -> None:
    assert read(b'{"name":"a","x":[1]}') == read('{"name":"a"}') == Thing("a")


def test_another_shape_is_told_apart() -> None:
    with pytest.raises(msgspec.ValidationError, match="name"):
        read(b'{"name":1}')


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b'{"name":"\xff"}',
        b'{"x":"\xff","name":1',
        b'{"name":"\\ud800"}',
        b"[" * 100_000,
        b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"x":' * 200_000 + b"1" + b"}" * 200_000,
    ],
)
def test_what_cannot_be_read(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(payload)


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b'{"name":"\\ud800"}', "half of a surrogate pair"),
        (b'{"name":"\\udfff"}', "half of a surrogate pair"),
        ('{"name":"\\uD83D\\uDE00\\uD83D"}', "half of a surrogate pair"),
        (b'{"name":"\\ud83d\\ud83d\\ude00"}', "half of a surrogate pair"),
        (b'{"name":"\\ud83d\\ude00"', "truncated"),
    ],
)
def test_half_of_a_surrogate_pair_is_told_apart(payload: bytes | str, told: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=told):
        read(payload)


def test_a_whole_pair_is_text() -> None:
    assert read(b'{"name":"\\ud83d\\ude00"}').name == "\U0001f600"


@given(st.binary())
def test_nothing_else_is_ever_raised(payload: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        read(payload)


class Inner(msgspec.Struct):
    count: int | None = None


class Numbers(msgspec.Struct):
    count: int = 0
    inner: Inner = msgspec.field(default_factory=Inner)
    anything: object = None
    names: list[int] = []


read_numbers = decoder(Numbers)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"count":5.0}', Numbers(5)),
        (b'{"count":5e0,"inner":{"count":7.0}}', Numbers(5, Inner(7))),
        ('{"count":-1.20E1,"anything":[1.0,"1"]}', Numbers(-12, anything=[1.0, "1"])),
        (
            msgspec.Raw(b'{"anything":12345678901234567890123,"count":1.0}'),
            Numbers(1, anything=12345678901234567890123),
        ),
    ],
)
def test_an_integer_may_be_written_with_a_fraction_or_an_exponent(payload: bytes, expected: Numbers) -> None:
    assert read_numbers(payload) == expected


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b'{"count":5.0,"anything":"\xff"}', "not UTF-8"),
        (b'{"count":5.5,"\xff":1}', "not UTF-8"),
        (b'{"count":5.0,"x":"\\ud800"}', "half of a surrogate pair"),
        (b'{"count":5.0,"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
        (b'{"count":5.0', "truncated"),
        (b'{"count":5.0,"x":1e400}', "count"),
    ],
)
def test_what_stands_behind_such_an_integer_is_refused_as_ever(payload: bytes, told: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=told):
        read_numbers(payload)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (b'{"count":5.5}', "count"),
        (b'{"count":1.0,"inner":{"count":0.5}}', "inner.count"),
        (b'{"count":1.0,"inner":{"count":"5"}}', "inner.count"),
        (b'{"count":1e300}', "count"),
        (b'{"names":[1.0]}', r"names\[0\]"),
        (b'{"count":1.0,"count":2.5}', "count"),
        (b'{"count":1.0,"count":2}', "count"),
        (b'{"inner":{"count":1.0},"inner":3}', "inner.count"),
    ],
)
def test_no_other_number_is_an_integer(payload: bytes, path: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{path}`"):
        read_numbers(payload)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"n": 12345678901234567890123, "x": [1e3, null]}', {"n": 12345678901234567890123, "x": [1000.0, None]}),
        ('{"a": "\\u0000\\ud83d\\ude00"}', {"a": "\0\N{GRINNING FACE}"}),
        (b"[1]", {}),
        (b"", {}),
        (b"done {", {}),
        (b'done "\\ud800"', {}),
        (b'{"n": NaN}', {}),
        (b"[" * 200_000, {}),
    ],
)
def test_the_object_that_a_job_answers(payload: bytes | str, expected: dict[str, Any]) -> None:
    assert object_in(payload) == expected


@pytest.mark.parametrize(
    ("payload", "told"), [(b'{"n": 1e400}', "number out of range"), (b'{"a": "\\ud800"}', "half of a surrogate pair")]
)
def test_an_answer_that_cannot_be_kept_is_no_empty_one(payload: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        object_in(payload)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e400", '{"a": [-1e309]}', "", "{", "[1,]"])
def test_what_a_person_writes_is_json_as_the_standard_has_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"NaN|Infinity|range|Expecting|trailing"):
        standard_json(text)
    assert standard_json('{"a": [1.5e3, 10, "\\ud800"]}') == {"a": [1500.0, 10, "\ud800"]}
