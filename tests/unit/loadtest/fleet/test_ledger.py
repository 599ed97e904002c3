"""sent = acked + nacked + in flight + stored + lost, whatever happens, and every event is where it should be."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from loadtest.fleet.ledger import Ledger

DEVICES, CAPACITY = 3, 4


class Model:
    """The same with one dictionary: (slot, number) → where it is."""

    def __init__(self) -> None:
        self.where: dict[tuple[int, int], str] = {}

    def of(self, slot: int, *places: str) -> list[int]:
        return sorted(number for (own, number), place in self.where.items() if own == slot and place in places)

    def count(self, place: str) -> int:
        return sum(found == place for found in self.where.values())


def check(ledger: Ledger, model: Model) -> None:
    assert ledger.sent == len(model.where)
    counts = (ledger.acked, ledger.nacked, ledger.in_flight, ledger.waiting, ledger.lost)
    assert counts == tuple(model.count(place) for place in ("acked", "nacked", "flying", "stored", "lost"))
    assert ledger.sent == sum(counts)
    for slot in range(DEVICES):
        assert ledger.flying[slot] == len(model.of(slot, "flying"))
        assert ledger.stored[slot] == len(model.of(slot, "stored"))
        numbers: list[int] = []
        for part in filter(None, ledger.acked_ranges(slot).split(",")):
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
        assert numbers == model.of(slot, "acked")


def step(ledger: Ledger, model: Model, what: int, slot: int, chance: Random) -> None:
    flying = model.of(slot, "flying")
    picked = chance.choice(flying) if flying else chance.randrange(1, 50)
    key = (slot, picked)
    if what == 0:
        number = ledger.make(slot)
        ledger.fly(slot, number, slot * 100 + number)
        model.where[slot, number] = "flying"
    elif what == 1:
        number = ledger.make(slot)
        stored = model.of(slot, "stored")
        dropped = ledger.store(slot, number, slot * 100 + number)
        model.where[slot, number] = "stored"
        assert dropped == (stored[0] if len(stored) >= CAPACITY else None)
        if dropped is not None:
            model.where[slot, dropped] = "lost"
    elif what == 2:
        intended_s = ledger.ack(slot, picked)
        assert intended_s == (slot * 100 + picked if model.where.get(key) in ("flying", "stored") else None)
        if intended_s is not None:
            model.where[key] = "acked"
    elif what == 3:
        ledger.refuse(slot, picked)
        if model.where.get(key) in ("flying", "stored"):
            model.where[key] = "nacked"
    elif what == 4:
        ledger.put_back(slot, picked)
        if flying:
            model.where[key] = "stored"
    elif what == 5:
        ledger.disconnected(slot)
        for number in flying:
            model.where[slot, number] = "stored"
    elif what == 6:
        most = chance.randrange(0, 6)
        expected = model.of(slot, "stored")[:most]
        assert ledger.take(slot, most) == [(number, slot * 100 + number) for number in expected]
        for number in expected:
            model.where[slot, number] = "flying"
    else:
        expected = model.of(slot, "flying", "stored")
        assert ledger.lose_open(slot) == expected
        for number in expected:
            model.where[slot, number] = "lost"


@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 6, 7]), st.integers(0, DEVICES - 1))),
    st.integers(),
)
def test_it_adds_up_whatever_happens(steps: list[tuple[int, int]], seed: int) -> None:
    ledger, model, chance = Ledger(DEVICES, CAPACITY), Model(), Random(seed)
    for what, slot in steps:
        step(ledger, model, what, slot, chance)
        check(ledger, model)


def test_only_what_flew_before_is_sent_again() -> None:
    ledger = Ledger(1, 10)
    for _ in range(2):
        ledger.store(0, ledger.make(0), 1.0)
    ledger.take(0, 10)
    assert ledger.resent == 0
    ledger.disconnected(0)
    ledger.store(0, ledger.make(0), 2.0)
    assert [number for number, _ in ledger.take(0, 10)] == [1, 2, 3]
    assert ledger.resent == 2


def test_acked_numbers_are_written_as_ranges() -> None:
    ledger = Ledger(1, 10)
    for _ in range(9):
        ledger.fly(0, ledger.make(0), 1.0)
    for number in (1, 2, 3, 5, 7, 8, 9):
        ledger.ack(0, number)
    ledger.refuse(0, 4)
    assert ledger.acked_ranges(0) == "1-3,5,7-9"
    assert Ledger(1, 1).acked_ranges(0) == ""


def test_a_full_store_drops_quickly() -> None:
    ledger = Ledger(1, 1000)
    for _ in range(1000):
        ledger.fly(0, ledger.make(0), 1.0)
    for _ in range(20_000):
        ledger.store(0, ledger.make(0), 1.0)
    assert (ledger.in_flight, ledger.waiting, ledger.lost) == (1000, 1000, 19_000)
