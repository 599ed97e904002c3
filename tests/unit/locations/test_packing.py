"""Packing into calls."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.locations.packing import pack


@given(st.lists(st.integers(0, 30)), st.integers(1, 10), st.integers(1, 50))
def test_every_position_once_in_order_and_within_both_limits(sizes: list[int], items: int, size: int) -> None:
    parts = list(pack(sizes, items, size))
    assert [position for part in parts for position in part] == list(range(len(sizes)))
    for part in parts:
        assert 0 < len(part) <= items
        assert sum(sizes[position] for position in part) <= size or len(part) == 1


@given(st.lists(st.integers(0, 30), min_size=1), st.integers(1, 10), st.integers(1, 50))
def test_no_part_could_have_taken_the_next_one(sizes: list[int], items: int, size: int) -> None:
    parts = list(pack(sizes, items, size))
    for part, following in itertools.pairwise(parts):
        taken = sum(sizes[position] for position in part)
        assert len(part) == items or taken + sizes[following[0]] > size
