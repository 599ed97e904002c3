"""Why a device dropped, in words: one paragraph made of its last connections. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gateway.connections.info import DisconnectInfo
from gateway.history.record import PastConnection
from gateway.wire.close_codes import CLOSE_CODES, Fault

_DAY_MS = 86_400_000

# By the causes of connections/ending.py. Other reasons are names of close codes, or an operator's own words.
REASONS: Mapping[str, str] = {
    "drain": "its gateway was drained",
    "shift": "its gateway sent it to the new revision of a deploy",
    "shutdown": "its gateway was stopped",
    "max_age": "it had reached the greatest age of a connection",
    "token_expired": "its token was about to end",
    "replaced": "a newer connection of the same device took over",
    "replaced_elsewhere": "a newer connection of the same device came to another gateway",
    "operator": "an operator sent it away",
    "token": "its new token was refused",
    "forbidden": "it showed a token of another device or account",
    "duplicate": "the device had another connection already",
    "heartbeat_timeout": "no answer came to a ping: the device, or the network on its side, was gone",
    "internal_error": "this service failed with it",
    "protocol": "the device broke the websocket protocol",
    "closed_by_peer": "the device closed it",
    "eof": "the device, or a proxy before it, ended the TCP connection without a close frame",
    "reset": "the TCP connection was reset by the device, or by something on the way",
    "timed_out": "TCP got no answer any more: the network lost it",
    "broken": "the TCP connection broke",
}
_DRAINS: Mapping[str, str] = {
    "target_health": "the load balancer took the gateway out of service",
    "api": "an operator asked for it",
    "sigusr1": "it was told to by SIGUSR1",
    "sigterm": "it was told to end by SIGTERM",
    "weights": "the weights of a deploy moved to a new revision",
}
_FAULTS: Mapping[Fault, str] = {
    Fault.PLAN: "planned",
    Fault.PEER: "the device's doing",
    Fault.NETWORK: "the network's",
    Fault.US: "this service's fault",
}


def explain(
    device: str,
    records: Sequence[PastConnection],
    now_ms: int,
    connection: str | None,
    last: DisconnectInfo | None = None,
) -> str:
    """One paragraph. `records` are the newest first; `connection` is the one that is open now, None: none is.

    `last` says how it left when no record does: those of a gateway that is gone may be gone with it.
    """
    if not records:
        return _unrecorded(device, connection, last)
    past = [record for record in records if record.connection != connection]
    sentences = [_now(device, records[0], now_ms, connection)]
    if past:
        sentences.append(_end(past[0], "Its last connection" if connection is None else "The one before"))
        if connection == records[0].connection and past[0].disconnected_ms is not None:
            away_ms = max(0, records[0].connected_ms - past[0].disconnected_ms)
            sentences.append(f"It was back after {span(away_ms)}.")
    sentences += _day(past, now_ms)
    return " ".join(sentences)


def _unrecorded(device: str, connection: str | None, last: DisconnectInfo | None) -> str:
    """Nobody who is there remembers its connections."""
    now = f"{device} is {'not ' if connection is None else ''}connected."
    if last is None:
        return f"{now} Nothing else is remembered of it."
    how = _how(last.reason, last.fault, last.code)
    return (
        f"{now} Its last connection ended at {_moment(last.time_ms)} because {how}; nothing else is remembered of it."
    )


def _now(device: str, newest: PastConnection, now_ms: int, connection: str | None) -> str:
    if connection is None:
        return f"{device} is not connected."
    if newest.connection != connection:
        return f"{device} is connected."
    since = f"since {_moment(newest.connected_ms)}, for {span(now_ms - newest.connected_ms)}"
    return f"{device} is connected to {newest.gateway} {since}, from {newest.address}."


def _end(record: PastConnection, what: str) -> str:
    """How one connection ended."""
    began = f"{what} began at {_moment(record.connected_ms)} on {record.gateway}"
    if record.disconnected_ms is None or record.reason is None:
        return f"{began}; how it ended is not known: its gateway was cut off before it could say so."
    lasted = span(record.disconnected_ms - record.connected_ms)
    drained = record.drain
    by = f" ({_DRAINS.get(drained.origin, drained.origin)} at {_moment(drained.began_ms)})" if drained else ""
    how = _how(record.reason, record.fault, record.code, by)
    return f"{began}, lasted {lasted} and ended at {_moment(record.disconnected_ms)} because {how}."


def _how(reason: str, fault: Fault | None, code: int | None, by: str = "") -> str:
    words = REASONS.get(reason) or _other(reason)
    whose = "" if fault is None else f"; that was {_FAULTS[fault]}"
    seen = "no close frame was seen" if code == 1006 else f"close code {code}"
    return f"{words}{by}{whose} ({seen})"


def _other(reason: str) -> str:
    for entry in CLOSE_CODES.values():
        if entry.name == reason:
            return entry.meaning
    return f"an operator sent it away with the words “{reason}”"


def _day(past: Sequence[PastConnection], now_ms: int) -> list[str]:
    """What else happened within a day, by whose doing."""
    ends = [
        record for record in past if record.disconnected_ms is not None and now_ms - record.disconnected_ms < _DAY_MS
    ]
    if len(ends) < 2:
        return []
    counts = Counter(_FAULTS[record.fault] for record in ends if record.fault is not None)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return [f"In the last 24 hours {len(ends)} of its connections ended: {told}."]


def span(ms: int) -> str:
    """A length of time in its two largest units: 26 h 10 min, 3 min 2 s, 12 s, 0.4 s."""
    if ms < 10_000:
        return f"{max(0, ms) / 1000:.1f} s"
    seconds = ms // 1000
    for size, unit, smaller_size, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= 2 * size or (seconds >= size and unit != "d"):
            rest = seconds % size // smaller_size
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
