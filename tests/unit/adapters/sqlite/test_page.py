"""What a search of the embedded index keeps of what it reads."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from gateway.adapters.sqlite.index import _Page
from gateway.adapters.sqlite.search import Part
from gateway.locations.query import Found, Position, Query

NOON_MS = 1_764_374_400_000


def parts(count: int) -> Iterator[Part]:
    """Events of one ms, a thousand a part, in no order; more of it may come until the last one is read."""
    for number in range(count):
        yield Part([Found("d", f"{index:03}-{number:03}", NOON_MS, 1.0, 2.0) for index in range(1000)], NOON_MS)


@pytest.mark.parametrize("ascending", [False, True])
def test_of_many_events_of_one_ms_few_are_kept(ascending: bool) -> None:
    page = _Page(Query(), 11, ascending=ascending)
    tracemalloc.start()
    try:
        page.fill(parts(50))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [event.id for event in page.first()] == [f"000-{number:03}" for number in range(11)]
    # Two parts of a thousand, one of them being made; all together would be 20 MB.
    assert peak_bytes < 2_000_000


def test_a_page_goes_on_behind_the_cursor() -> None:
    page = _Page(Query(after=Position(NOON_MS, "d", "000-048")), 3, ascending=False)
    page.fill(parts(50))
    assert [event.id for event in page.first()] == ["000-049", "001-000", "001-001"]
