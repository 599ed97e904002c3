from gateway.locations.counters import Counters
from gateway.locations.outcome import Durability


def test_flushes_fall_into_buckets_that_add_up() -> None:
    counters = Counters()
    for seconds in (0.0005, 0.001, 0.3, 99.0):
        counters.flushed(seconds)
    (family,) = [family for family in counters.families() if family.type == "histogram"]
    values = {sample.labels.get("le", sample.name): sample.value for sample in family.samples}
    assert values["0.001"] == 2
    assert values["0.25"] == 2
    assert values["0.5"] == 3
    assert values["+Inf"] == 4
    assert values["heiwa_locations_flush_seconds_count"] == 4


def test_what_is_settled_is_acknowledged_or_refused() -> None:
    counters = Counters()
    counters.acknowledged[Durability.INDEXED] += 3
    counters.refused["overloaded"] += 2
    assert counters.settled() == 5
