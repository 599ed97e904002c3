"""Lines by account, against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rotation import Next, Rotation

PUT = st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 2), st.booleans())


class Model:
    """Each line as a list of (rank, key), sorted whenever one is put."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, list[tuple[int, int]]]] = []

    def put(self, account: str, key: int, rank: int, *, first: bool) -> None:
        line = next((line for name, line in self.lines if name == account), None)
        if line is None:
            line = []
            self.lines.append((account, line))
        before = next((one for one in line if one[1] == key), None)
        if before is None or before[0] > rank:
            line[:] = [one for one in line if one != before] + [(rank, key)]
        if first and (rank, key) in line:
            line.remove((rank, key))
            line.insert(0, (rank, key))
        line.sort(key=lambda one: one[0])

    def take(self) -> tuple[str, int, int]:
        account, line = self.lines.pop(0)
        rank, key = line.pop(0)
        if line:
            self.lines.append((account, line))
        return account, key, rank


@given(st.lists(st.one_of(PUT, st.none()), max_size=200))
def test_it_behaves_like_lists_that_take_turns(steps: list[tuple[str, int, int, bool] | None]) -> None:
    rotation: Rotation[int, str] = Rotation(3)
    model = Model()
    for step in steps:
        if step is None and model.lines:
            account, key, rank = model.take()
            assert rotation.take() == Next(account, key, account, rank)
        elif step is not None:
            account, key, rank, first = step
            model.put(account, key, rank, first=first)
            rotation.put(account, key, account, rank, first=first)
        assert len(rotation) == sum(len(line) for _, line in model.lines)
    if not model.lines:
        with pytest.raises(KeyError):
            rotation.take()
