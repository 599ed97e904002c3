"""Alike nacks are merged, and no message is larger than a device can take."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.answers import MAX_KINDS, MAX_REASON_CHARACTERS, merged, split
from gateway.protocol.messages import Ack, Nack, encode

names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64)


@given(st.lists(names, min_size=1, max_size=300), st.integers(512, 20_000), st.booleans())
def test_all_ids_in_their_order_and_no_message_too_large(ids: list[str], max_bytes: int, good: bool) -> None:
    outcome = Ack(ids, "indexed") if good else Nack(ids, "invalid", "x" * 200, 1000)
    messages = split(outcome, max_bytes)
    assert all(len(message) <= max_bytes for message in messages)
    read = [msgspec.json.decode(message) for message in messages]
    assert [name for message in read for name in message["ids"]] == ids
    assert {message["type"] for message in read} == {"ack" if good else "nack"}
    # As few as possible: no message could take the first id of the next one.
    for message, following in pairwise(read):
        assert len(encode(message | {"ids": [*message["ids"], following["ids"][0]]})) > max_bytes


def test_a_long_reason_is_cut() -> None:
    (message,) = split(Nack(["a"], "invalid", "x" * 5000), 1000)
    assert len(msgspec.json.decode(message)["message"]) == MAX_REASON_CHARACTERS + 1


def test_what_names_nothing_is_told_as_well() -> None:
    assert split(Nack((), "invalid", "no id"), 1000) == [encode(Nack((), "invalid", "no id"))]


def _bad(index: int, field: str = "lat", name: str | None = None, retry_after_ms: int | None = None) -> Nack:
    return Nack(() if name is None else (name,), "invalid", f"wrong - at `$.events[{index}].{field}`", retry_after_ms)


def test_alike_ones_are_one() -> None:
    nacks = [_bad(3, name="a"), _bad(4, "lon", "b"), _bad(7, name="c"), _bad(9), _bad(10, name="d", retry_after_ms=5)]
    assert merged(nacks) == [
        Nack(["a", "c"], "invalid", "wrong - at `$.events[3].lat`; 2 more are wrong, too"),
        _bad(4, "lon", "b"),
        _bad(10, name="d", retry_after_ms=5),
    ]


def test_there_are_only_so_many_kinds() -> None:
    nacks = [_bad(index, f"field{index}", f"e{index}") for index in range(500)]
    found = merged(nacks)
    assert len(found) == MAX_KINDS
    assert sorted(name for nack in found for name in nack.ids) == sorted(f"e{index}" for index in range(500))


@pytest.mark.parametrize("count", [0, 1])
def test_few_stay_as_they_are(count: int) -> None:
    nacks = [_bad(index) for index in range(count)]
    assert merged(nacks) == nacks
