"""Whether, when and with which token a device comes back after its connection ended."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from gateway.connections.close_codes import CLOSE_CODES, REPLACED, Reconnect

# Full jitter (every delay from 0 to the ceiling alike): a fleet that lost its server together must not return together.
FIRST_CEILING_S = 1.0
LAST_CEILING_S = 30.0
# A refusal that names no time is overload or a mistake: never hurry back.
REFUSED_FLOOR_S = 1.0
MAX_OBEYED_S = 3600.0


class Return(NamedTuple):
    """Come back after `wait_s`; `new_token`: with a newly made one."""

    wait_s: float
    new_token: bool = False


class Stop(NamedTuple):
    """Do not come back; `why` is for a person."""

    why: str


def ceiling_s(failures: int) -> float:
    """The longest wait after so many failures in a row: 1, 2, 4 … 30 s."""
    return min(LAST_CEILING_S, FIRST_CEILING_S * 2.0 ** min(failures, 30))


def backoff_s(failures: int, random: Random) -> float:
    """A wait between 0 and the ceiling, every value alike."""
    return random.uniform(0, ceiling_s(failures))


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
        if not mints:
            return Stop(f"{said}: give a new one with --token")
        return Return(0.0 if failures == 0 else backoff_s(failures, random), new_token=True)
    return Return(backoff_s(failures, random))


def after_goaway(reason: str, reconnect_after_ms: int, *, mints: bool) -> Return | Stop:
    """What to do after the device left because the server asked it to; the wait counts from the disconnect."""
    if reason == "replaced":
        return Stop(f"{CLOSE_CODES[REPLACED].meaning}; use another --sub to run two")
    if reason == "token_expired" and not mints:
        return Stop("the token has expired; give a new one with --token")
    return Return(_obeyed_s(reconnect_after_ms), new_token=reason == "token_expired")


def after_refusal(
    status: int, detail: str, retry_after_s: float | None, *, mints: bool, failures: int, random: Random
) -> Return | Stop:
    """What to do after a handshake was answered with an HTTP status other than 101.

    `detail` is the server's explanation. A refused token is replaced once when the device makes its own.
    """
    said = f"HTTP {status}{f': {detail}' if detail else ''}"
    if status in (401, 403):
        if mints and status == 401 and failures == 0:
            return Return(0.0, new_token=True)
        return Stop(f"the server refused the token ({said})")
    if status == 409 or status == 429 or status >= 500:
        wait_s = backoff_s(failures, random)
        if retry_after_s is not None:
            return Return(min(max(retry_after_s, wait_s), MAX_OBEYED_S))
        return Return(max(REFUSED_FLOOR_S, wait_s))
    return Stop(f"the server refused the connection ({said})")


def _obeyed_s(reconnect_after_ms: int) -> float:
    return min(max(0, reconnect_after_ms) / 1000, MAX_OBEYED_S)


def retry_after_s(header: str | None) -> float | None:
    """`Retry-After` in seconds (RFC 9110, 10.2.3); a date or nonsense counts as not given."""
    if header is None or not header.strip().isascii() or not header.strip().isdigit():
        return None
    return float(min(int(header.strip()[:9]), int(MAX_OBEYED_S)))
