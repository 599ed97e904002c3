"""A set of slots behaves as a set, and iterates in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.slots import Slots


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5))))
def test_it_is_a_set_in_order(steps: list[tuple[bool, int]]) -> None:
    slots, model = Slots(), set[int]()
    for adds, slot in steps:
        (slots.add if adds else slots.discard)(slot)
        (model.add if adds else model.discard)(slot)
        assert list(slots) == sorted(model)
        assert len(slots) == len(model)
        assert [each in slots for each in range(6)] == [each in model for each in range(6)]
        assert bool(slots) == bool(model)
