"""The file of acknowledged events, while it grows and when it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.fleet.acked import AckedFile, ranges
from loadtest.fleet.ledger import Ledger
from loadtest.fleet.options import FleetOptions
from loadtest.results.union import acked_files


def ack(ledger: Ledger, slot: int, *numbers: int) -> None:
    while ledger.made[slot] < max(numbers):
        ledger.fly(slot, ledger.make(slot), 1.0)
    for number in numbers:
        ledger.ack(slot, number)


def opened(path: Path) -> tuple[AckedFile, Ledger]:
    ledger = Ledger(2, 10)
    options = FleetOptions(urls=["ws://x/ws"], devices=2, acked_file=str(path))
    return AckedFile(options, "r.", ledger), ledger


def test_acks_are_on_disk_after_each_flush(tmp_path: Path) -> None:
    file, ledger = opened(tmp_path / "acked")
    read = acked_files([tmp_path / "acked"], "loadtest")
    ack(ledger, 0, 1, 2, 4)
    file.flush()
    assert set(read()) == {("device-0", "r.1"), ("device-0", "r.2"), ("device-0", "r.4")}
    file.flush()
    ack(ledger, 0, 3)
    ack(ledger, 1, 1)
    file.flush()
    assert len(list(read())) == 5
    ledger.lose_open(0)
    file.finish()
    assert (tmp_path / "acked").read_text().splitlines() == [
        "loadtest\tdevice-0\tr.\t1-4",
        "loadtest\tdevice-1\tr.\t1",
    ]
    assert not (tmp_path / "acked.part").exists()


def test_a_disk_that_fails_ends_the_journal_and_nothing_else(tmp_path: Path) -> None:
    file, ledger = opened(Path("/dev/full"))
    ack(ledger, 0, 1)
    with pytest.raises(OSError, match="No space"):
        file.flush()
    ack(ledger, 0, 2)
    file.flush()
    assert (ledger.acked, ledger.journal) == (2, None)


@given(st.sets(st.integers(1, 60)))
def test_ranges(numbers: set[int]) -> None:
    parts = [part.partition("-") for part in filter(None, ranges(numbers).split(","))]
    assert {n for first, _, last in parts for n in range(int(first), int(last or first) + 1)} == numbers
    assert all(last == "" or int(last) > int(first) for first, _, last in parts)
