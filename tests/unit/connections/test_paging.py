"""Pages of many names."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connections import paging
from gateway.connections.paging import next_names


async def test_pages_are_sorted_and_go_on_behind_the_last() -> None:
    names = ["b", "d", "a", "c"]
    assert await next_names(names, None, 2) == ["a", "b"]
    assert await next_names(names, "b", 10) == ["c", "d"]
    assert await next_names(names, "bb", 10) == ["c", "d"]
    assert await next_names(names, "d", 10) == await next_names([], None, 10) == []


@given(
    st.lists(st.text(max_size=3), max_size=60, unique=True),
    st.none() | st.text(max_size=3),
    st.integers(1, 20),
    st.integers(1, 9),
)
def test_it_is_what_sorting_gives(names: list[str], after: str | None, count: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "_SLICE", size)
        found = asyncio.run(next_names(names, after, count))
    assert found == sorted(name for name in names if after is None or name > after)[:count]


async def test_others_have_their_turn() -> None:
    names = [f"device-{number * 7919 % 200_000:06}" for number in range(200_000)]
    turns, done = 0, False

    async def watch() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    found = await next_names(names, None, 1001)
    done = True
    await watching
    assert found == sorted(names)[:1001]
    # About a millisecond of work lies between two of them.
    assert turns >= 200_000 / 5000
