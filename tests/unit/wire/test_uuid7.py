"""Connection ids."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.uuid7 import text_of, time_ms_of, uuid7

times = st.integers(0, 2**48 - 1)
bits = st.integers(0, 2**74 - 1)


@given(times, bits)
def test_it_is_a_uuid_of_version_7(time_ms: int, random_bits: int) -> None:
    high, low = uuid7(time_ms, random_bits)
    parsed = UUID(text_of(high, low))
    assert (parsed.version, parsed.variant) == (7, RFC_4122)
    assert parsed.int >> 80 == time_ms == time_ms_of(high)
    assert (parsed.int >> 64 & 0xFFF) << 62 | parsed.int & (2**62 - 1) == random_bits


@given(times, times, bits, bits)
def test_later_ones_sort_behind(first_ms: int, second_ms: int, one: int, other: int) -> None:
    if first_ms < second_ms:
        assert text_of(*uuid7(first_ms, one)) < text_of(*uuid7(second_ms, other))
