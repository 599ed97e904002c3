"""Ends that are spread by the connection's own bits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.connections.lifetime import age_s, token_lead_s

bits = st.integers(0, 2**64 - 1)


@given(bits, st.floats(-1e6, 1e9))
def test_a_lead_is_a_part_of_the_life_and_at_most_ten_minutes(id_low: int, life_s: float) -> None:
    lead_s = token_lead_s(id_low, life_s)
    assert 0 <= lead_s <= 600
    assert lead_s <= max(life_s, 0) * 0.2


@given(bits, st.floats(0, 1e5), st.floats(0, 1e5))
def test_an_age_lies_in_its_range(id_low: int, least_s: float, more_s: float) -> None:
    assert least_s <= age_s(id_low, least_s, least_s + more_s) <= (least_s + more_s) * (1 + 1e-12)


def test_the_spread_reaches_both_ends() -> None:
    assert token_lead_s(0, 7200) == 0
    assert token_lead_s(0xFFFF, 7200) == 600
    assert age_s(0, 10, 20) == 10
    assert age_s(0xFFFF << 16, 10, 20) == 20
    # Of the same id, both are drawn from bits of their own.
    assert token_lead_s(0xFFFF << 16, 7200) == 0
