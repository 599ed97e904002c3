import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.device.latency import GROWTH, Latency


def test_nothing_has_no_percentile() -> None:
    assert Latency().percentile_ms(50) is None


def test_zero_and_negative_count_as_the_smallest() -> None:
    latency = Latency()
    latency.add(0.0)
    latency.add(-1.0)
    assert latency.count == 2
    assert latency.percentile_ms(100) == 0.01


@given(st.lists(st.floats(0.011, 1e7), min_size=1), st.sampled_from([0, 1, 50, 90, 99, 99.9, 100]))
def test_within_two_percent_of_the_sorted_list(values: list[float], percent: float) -> None:
    latency = Latency()
    for value in values:
        latency.add(value)
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]
    found = latency.percentile_ms(percent)
    assert found is not None
    assert exact * (1 - 1e-9) <= found <= exact * GROWTH * (1 + 1e-9)
