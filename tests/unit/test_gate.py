"""Places for work on the outside, whoever asks for how many."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.gate import Gate

TURNS = 5


class Crowd:
    """Who asks for places, and has them until told to leave."""

    def __init__(self, places: int, of_one: int) -> None:
        self.gate = Gate(places, of_one)
        self.inside: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Event] = {}

    async def asks(self, *names: str) -> None:
        """The first letter is the account."""
        for name in names:
            self._leaving[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._stay(name))
        await self.settle()

    async def leaves(self, name: str) -> None:
        self._leaving[name].set()
        await self.settle()

    async def goes(self, name: str) -> None:
        """Cancelled, wherever it stands."""
        self._tasks[name].cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _stay(self, name: str) -> None:
        async with self.gate.place(name[0]):
            self.inside.append(name)
            try:
                await self._leaving[name].wait()
            finally:
                self.inside.remove(name)


async def test_one_account_has_its_share_and_no_more() -> None:
    crowd = Crowd(4, 3)
    await crowd.asks(*(f"a{number}" for number in range(9)))
    assert crowd.inside == ["a0", "a1", "a2"]
    await crowd.asks("b0", "b1")
    assert crowd.inside == ["a0", "a1", "a2", "b0"]
    await crowd.leaves("a1")
    assert crowd.inside == ["a0", "a2", "b0", "b1"]
    await crowd.leaves("b1")
    assert crowd.inside == ["a0", "a2", "b0", "a3"]


async def test_accounts_take_turns_for_what_is_free() -> None:
    crowd = Crowd(1, 1_000)
    await crowd.asks("x0", "a0", "a1", "a2", "b0", "c0")
    seen = []
    for _ in range(6):
        seen += crowd.inside
        await crowd.leaves(crowd.inside[0])
    assert seen == ["x0", "a0", "b0", "c0", "a1", "a2"]


async def test_who_goes_before_its_turn_keeps_no_place() -> None:
    crowd = Crowd(2, 1)
    await crowd.asks("a0", "a1", "a2", "b0", "c0", "c1")
    for name in ("a1", "c0"):
        await crowd.goes(name)
    await crowd.leaves("b0")
    assert crowd.inside == ["a0", "c1"]
    await crowd.goes("a0")
    assert crowd.inside == ["c1", "a2"]


async def test_a_place_that_is_given_to_one_who_goes_is_given_on() -> None:
    gate = Gate(1, 1)
    async with AsyncExitStack() as first:
        await first.enter_async_context(gate.place("a"))
        waiting = asyncio.create_task(gate.place("b").__aenter__())
        await asyncio.sleep(0)
        await first.aclose()
        # It has the place, and does not know it yet.
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(1), gate.place("c"):
        pass


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["asks", "leaves", "goes"]), st.integers(0, 30)), max_size=60),
)
def test_no_place_is_lost_and_none_is_given_twice(places: int, of_one: int, steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        crowd = Crowd(places, of_one)
        here: list[str] = []
        for number, (what, which) in enumerate(steps):
            if what == "asks":
                here.append(f"{'abc'[which % 3]}{number}")
                await crowd.asks(here[-1])
            elif here:
                name = here[which % len(here)]
                if what == "goes" or name in crowd.inside:
                    here.remove(name)
                    await (crowd.goes(name) if what == "goes" else crowd.leaves(name))
            counts = {account: sum(name[0] == account for name in crowd.inside) for account in "abc"}
            wanted = {account: min(of_one, sum(name[0] == account for name in here)) for account in "abc"}
            assert max(counts.values()) <= of_one
            assert len(crowd.inside) == min(places, sum(wanted.values()))
        for name in here:
            await crowd.goes(name)

    asyncio.run(play())
