"""Connection ids: UUIDs of version 7 (RFC 9562, 5.7), kept as two numbers."""

from __future__ import annotations


def uuid7(time_ms: int, random_bits: int) -> tuple[int, int]:
    """The high and low half. `random_bits` holds at least 74 random bits."""
    high = (time_ms & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | random_bits >> 62 & 0xFFF
    low = 0b10 << 62 | random_bits & 0x3FFF_FFFF_FFFF_FFFF
    return high, low


def text_of(high: int, low: int) -> str:
    """The usual form with hyphens."""
    text = f"{high << 64 | low:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def time_ms_of(high: int) -> int:
    """When it was made, ms since the Unix epoch."""
    return high >> 16
