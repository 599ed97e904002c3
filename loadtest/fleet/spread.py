"""Random numbers that are always the same for the same device, so that they need not be kept. Pure."""

from __future__ import annotations

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_GOLDEN = 0.6180339887498949


def bits(seed: int, index: int, salt: int = 0) -> int:
    """64 random bits of device `index`; another `salt` gives independent bits (splitmix64, Steele et al., 2014)."""
    value = (seed * 0x9E37_79B9_7F4A_7C15 + (index + 1) * 0xBF58_476D_1CE4_E5B9 + salt * 0x94D0_49BB_1331_11EB) & _MASK
    value = ((value ^ value >> 30) * 0xBF58_476D_1CE4_E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D0_49BB_1331_11EB) & _MASK
    return value ^ value >> 31


def fraction(seed: int, index: int, salt: int = 0) -> float:
    """A random number of device `index` in [0, 1); another `salt` gives an independent one."""
    return (bits(seed, index, salt) >> 11) / (1 << 53)


def phase(index: int) -> float:
    """A number in [0, 1), more even than random ones: any range of devices fills a period without clusters or gaps."""
    return index * _GOLDEN % 1.0
