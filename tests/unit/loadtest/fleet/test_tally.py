"""What a fleet process measures between two samples."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from hdrh.histogram import HdrHistogram

from loadtest.fleet import tally
from loadtest.fleet.tally import LatencyRecorder


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_a_histogram_goes_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[object]] = []

    class Seen(HdrHistogram):  # type: ignore[misc]
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(tally, "HdrHistogram", Seen)
    recorder = LatencyRecorder()
    for _ in range(3):
        recorder.record(0.02)
        assert recorder.take()
    assert [one() for one in made] == [None] * 3
    assert recorder.take() == ""
