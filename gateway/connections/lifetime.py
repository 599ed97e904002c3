"""How long a connection lives: its age and its token's end, spread so that what began together does not end together.

Each connection's share of a spread comes from the random bits of its id: the same answer whenever it is asked, and no
number to keep. Pure.
"""

from __future__ import annotations

_STEPS = 0xFFFF
# To spread the ends, a connection gives up at most this share of its token's remaining life, and at most these seconds.
_LEAD_SHARE = 0.2
_MAX_LEAD_S = 600.0


def token_lead_s(id_low: int, life_s: float) -> float:
    """How long before its token ends (in `life_s`) this connection is asked to leave.

    Tokens minted together end together: without a lead for each, expiry would make the very herd that drains avoid.
    """
    return min(max(life_s, 0.0) * _LEAD_SHARE, _MAX_LEAD_S) * (id_low & _STEPS) / _STEPS


def age_s(id_low: int, minimum_s: float, maximum_s: float) -> float:
    """The age at which this connection is asked to reconnect, drawn for it alone."""
    return minimum_s + (maximum_s - minimum_s) * (id_low >> 16 & _STEPS) / _STEPS
