"""Whether, when and with which token a device comes back after its connection ended."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from gateway.wire.close_codes import CLOSE_CODES, REPLACED, Reconnect

# No two tries without a wait, whatever the server says: it may be broken, and so may what stands before it.
MIN_WAIT_S = 0.1
# Full jitter (every delay up to the ceiling alike): a fleet that lost its server together must not return together.
FIRST_CEILING_S = 1.0
LAST_CEILING_S = 30.0
# A refusal that names no time is overload or a mistake: never hurry back.
REFUSED_FLOOR_S = 1.0
# A longer wait is a mistake.
MAX_OBEYED_S = 3600.0


class Return(NamedTuple):
    """Come back after `wait_s`; `new_token`: with a newly made one."""

    wait_s: float
    new_token: bool = False


class Stop(NamedTuple):
    """Do not come back; `why` is for a person."""

    why: str


def ceiling_s(failures: int) -> float:
    """The longest wait after a number of failures in a row: 1, 2, 4 … 30 s."""
    return min(LAST_CEILING_S, FIRST_CEILING_S * 2.0 ** min(failures, 30))


def backoff_s(failures: int, random: Random) -> float:
    """A wait between the minimum and the ceiling, every value alike."""
    return random.uniform(MIN_WAIT_S, ceiling_s(failures))


def after_close(code: int | None, reason: str, *, mints: bool, failures: int, random: Random) -> Return | Stop:
    """What to do after an open connection ended without a `goaway`.

    `code` None: no close frame was seen. `mints`: the device can make a new token itself. `failures`: ends in a row
    before this one.
    """
    known = CLOSE_CODES.get(code) if code is not None else None
    said = f"{known.meaning if known else ''} (close code {code}{f', {reason}' if reason else ''})"
    if known is not None and known.reconnect is Reconnect.NEVER:
        return Stop(said.strip())
    if known is not None and known.reconnect is Reconnect.NEW_TOKEN:
        return _with_a_new_token(said, mints=mints, failures=failures, random=random)
    return Return(backoff_s(failures, random))


def after_goaway(reason: str, reconnect_after_ms: int, *, mints: bool, failures: int, random: Random) -> Return | Stop:
    """What to do after the device left because the server asked it to; the wait counts from the disconnect.

    After `failures` (a server that asks to leave each time is one) the wait is at least the back-off.
    """
    if reason == "replaced":
        return Stop(f"{CLOSE_CODES[REPLACED].meaning}; use another --sub to run two")
    if reason == "token_expired" and not mints:
        return Stop("the token has expired; give a new one with --token")
    minimum_s = MIN_WAIT_S if failures == 0 else backoff_s(failures, random)
    return Return(min(max(minimum_s, reconnect_after_ms / 1000), MAX_OBEYED_S), new_token=reason == "token_expired")


def after_refusal(
    status: int, detail: str, retry_after_s: float | None, *, mints: bool, failures: int, random: Random
) -> Return | Stop:
    """What to do after a handshake was answered with an HTTP status other than 101.

    `detail` is the server's explanation. A refused token ends a device that cannot make another. Every other status
    may be a proxy's, a deploy's or a mistake that gets mended: the device comes back.
    """
    if status in (401, 403):
        said = f"the server refused the token (HTTP {status}{f': {detail}' if detail else ''})"
        return _with_a_new_token(said, mints=mints, failures=failures, random=random)
    wait_s = max(REFUSED_FLOOR_S, backoff_s(failures, random), retry_after_s or 0.0)
    return Return(min(wait_s, MAX_OBEYED_S))


def retry_after_s(values: Sequence[str]) -> float | None:
    """The longest time that the `Retry-After` fields of an answer name, in seconds (RFC 9110, 10.2.3).

    A date or nonsense counts as not given: clocks of devices are off, and there is back-off. None: no time was given.
    """
    times_s = [_whole_seconds(value.strip()) for value in values]
    return max((time_s for time_s in times_s if time_s is not None), default=None)


def _with_a_new_token(said: str, *, mints: bool, failures: int, random: Random) -> Return | Stop:
    """The first time soon, for a token that expired while the device was away is no failure of the server."""
    if not mints:
        return Stop(f"{said}: give a new one with --token")
    return Return(MIN_WAIT_S if failures == 0 else backoff_s(failures, random), new_token=True)


def _whole_seconds(text: str) -> float | None:
    if not text.isascii() or not text.isdigit():
        return None
    return MAX_OBEYED_S if len(text.lstrip("0")) > len(f"{MAX_OBEYED_S:.0f}") else min(float(text), MAX_OBEYED_S)
