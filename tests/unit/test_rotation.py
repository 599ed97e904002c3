"""Lines by account, against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rotation import Next, Rotation

PUT = st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans())


@given(st.lists(st.one_of(PUT, st.none()), max_size=200))
def test_it_behaves_like_lists_that_take_turns(steps: list[tuple[str, int, bool] | None]) -> None:
    rotation: Rotation[int, str] = Rotation()
    lines: list[tuple[str, list[int]]] = []
    for step in steps:
        if step is None and lines:
            account, line = lines.pop(0)
            assert rotation.take() == Next(account, line.pop(0), account)
            if line:
                lines.append((account, line))
        elif step is not None:
            account, key, first = step
            line = next((line for name, line in lines if name == account), [])
            if not line:
                lines.append((account, line))
            if key not in line:
                line.append(key)
            if first:
                line.remove(key)
                line.insert(0, key)
            rotation.put(account, key, account, first=first)
        assert len(rotation) == sum(len(line) for _, line in lines)
    if not lines:
        with pytest.raises(KeyError):
            rotation.take()
