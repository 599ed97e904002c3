import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents, items
from gateway.locations.narrowing import MAX_CALLS, write_narrowed, write_narrowed_async
from gateway.locations.outcome import Rejection
from tests.support.locations import event


class Store:
    """Raises for a batch that holds one of `bad`, refuses `busy`, and keeps the rest."""

    def __init__(self, bad: set[str], busy: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.bad, self.busy = bad, busy
        self.stored: list[str] = []
        self.calls = 0
        self.failure: Exception = KeyError("bad")

    def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        self.calls += 1
        names = [one.id for _, one in items(groups)]
        if self.bad.intersection(names):
            raise self.failure
        self.stored += [name for name in names if name not in self.busy]
        return {position: Rejection("busy") for position, name in enumerate(names) if name in self.busy}


def batch(*sizes: int) -> list[DeviceEvents]:
    return [
        DeviceEvents("a", f"d{number}", [event(f"{number}-{k}") for k in range(size)])
        for number, size in enumerate(sizes)
    ]


sizes = st.lists(st.integers(0, 9), min_size=1, max_size=8)


@given(sizes, st.data())
def test_only_what_is_at_fault_is_poison_and_the_others_are_stored_in_order(
    shape: list[int], data: st.DataObject
) -> None:
    groups = batch(*shape)
    names = [one.id for _, one in items(groups)]
    some = st.sets(st.sampled_from(names)) if names else st.just(set[str]())
    bad = data.draw(some)
    store = Store(bad, data.draw(some) - bad)
    rejections = write_narrowed(groups, store.write)
    assert {names[position] for position, one in rejections.items() if one.poison} == store.bad
    assert {names[position] for position, one in rejections.items() if not one.poison} == store.busy
    assert store.stored == [name for name in names if name not in store.bad | store.busy]
    assert all("KeyError" in one.reason for one in rejections.values() if one.poison)


def test_one_bad_event_of_4000_takes_few_calls() -> None:
    store = Store({"150-7"})
    assert list(write_narrowed(batch(*[20] * 200), store.write)) == [150 * 20 + 7]
    assert store.calls <= 30


def test_work_is_bounded_and_what_was_not_tried_is_no_poison() -> None:
    groups = batch(*[20] * 100)
    store = Store({one.id for _, one in items(groups)})
    rejections = write_narrowed(groups, store.write)
    assert len(rejections) == 2000
    assert store.calls == MAX_CALLS
    assert 100 < sum(rejection.poison for rejection in rejections.values()) < 2000


def test_a_store_that_fails_as_a_whole_says_so_and_in_part_refuses_that_part() -> None:
    def gone(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        raise StoreError("gone")

    with pytest.raises(StoreError, match="gone"):
        write_narrowed(batch(2), gone)
    calls = 0

    def full(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError
        raise StoreError("full")

    rejections = write_narrowed(batch(1, 2), full)
    assert [(position, one.poison) for position, one in sorted(rejections.items())] == [(p, False) for p in range(3)]


async def test_a_store_that_is_awaited() -> None:
    store = Store({"1-1"})

    async def write(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        await asyncio.sleep(0)
        return store.write(groups)

    assert list(await write_narrowed_async(batch(2, 2), write)) == [3]
    assert store.stored == ["0-0", "0-1", "1-0"]
