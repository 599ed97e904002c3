"""Why a device dropped, in words."""

from __future__ import annotations

import pytest

from gateway.connections import ending
from gateway.connections.ending import Cause, failure
from gateway.connections.info import DisconnectInfo
from gateway.history.record import Drained, PastConnection, newest
from gateway.history.why import REASONS, explain, span
from gateway.wire.close_codes import CLOSE_CODES, Fault

NOW_MS = 1_764_374_400_000  # 2025-11-29 00:00:00 UTC
HOUR_MS = 3_600_000


def connection(name: str, began_ms: int, ended_ms: int | None = None, **how: object) -> PastConnection:
    given = {"code": 1001, "reason": "drain", "fault": Fault.PLAN} | how if ended_ms is not None else {}
    return PastConnection(name, "gw-1", "10.0.0.5", "", began_ms, ended_ms, **given)  # type: ignore[arg-type]


def test_a_device_that_was_moved_by_a_drain() -> None:
    old = connection(
        "a", NOW_MS - 28 * HOUR_MS, NOW_MS - 2 * HOUR_MS, drain=Drained("target_health", NOW_MS - 3 * HOUR_MS)
    )
    new = connection("b", NOW_MS - 2 * HOUR_MS + 8000)
    assert explain("lamp-1", [new, old], NOW_MS, "b") == (
        "lamp-1 is connected to gw-1 since 2025-11-28 22:00:08 UTC, for 1 h 59 min, from 10.0.0.5. "
        "The one before began at 2025-11-27 20:00:00 UTC on gw-1, lasted 26 h and ended at 2025-11-28 22:00:00 UTC "
        "because its gateway was drained (the load balancer took the gateway out of service at 2025-11-28 21:00:00 "
        "UTC); that was planned (close code 1001). It was back after 8.0 s."
    )


def test_a_device_that_is_away() -> None:
    records = [
        connection("b", NOW_MS - HOUR_MS, NOW_MS - 60_000, code=1006, reason="heartbeat_timeout", fault=Fault.NETWORK),
        connection("a", NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS, code=1000, reason="closed_by_peer", fault=Fault.PEER),
    ]
    told = explain("lamp-1", records, NOW_MS, None)
    assert told.startswith("lamp-1 is not connected. Its last connection began at 2025-11-28 23:00:00 UTC on gw-1, ")
    assert "lasted 59 min and ended at 2025-11-28 23:59:00 UTC because no answer came to a ping" in told
    assert "that was the network's (no close frame was seen)" in told
    assert told.endswith("In the last 24 hours 2 of its connections ended: 1 the network's, 1 the device's doing.")


def test_what_is_not_known_is_said() -> None:
    assert explain("lamp-1", [], NOW_MS, "a") == "lamp-1 is connected. Nothing else is remembered of it."
    assert explain("lamp-1", [], NOW_MS, None, DisconnectInfo(NOW_MS, 1001, "drain", Fault.PLAN)) == (
        "lamp-1 is not connected. Its last connection ended at 2025-11-29 00:00:00 UTC because its gateway was drained;"
        " that was planned (close code 1001); nothing else is remembered of it."
    )
    told = explain("lamp-1", [connection("a", NOW_MS - HOUR_MS)], NOW_MS, None)
    assert "how it ended is not known: its gateway was cut off before it could say so" in told
    # It came a moment ago, and that is not written down yet.
    told = explain("lamp-1", [connection("a", NOW_MS - HOUR_MS, NOW_MS - 1000)], NOW_MS, "b")
    assert told.startswith("lamp-1 is connected. The one before began at")


def test_an_operators_words_and_a_broken_rule() -> None:
    records = [connection("a", NOW_MS - HOUR_MS, NOW_MS, reason="stolen")]
    assert "because an operator sent it away with the words “stolen”" in explain("x", records, NOW_MS, None)
    records = [connection("a", NOW_MS - HOUR_MS, NOW_MS, reason="rate", code=4429, fault=Fault.PEER)]
    assert "because more messages or frames than allowed; that was the device's doing (close code 4429)" in explain(
        "x", records, NOW_MS, None
    )


def test_every_cause_has_words() -> None:
    causes = {value.name for value in vars(ending).values() if isinstance(value, Cause)}
    assert set(REASONS) == causes
    for code in CLOSE_CODES:
        record = connection("a", NOW_MS - 1000, NOW_MS, reason=failure(code).name, code=code)
        assert "with the words" not in explain("x", [record], NOW_MS, None)


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5, "0.0 s"),
        (400, "0.4 s"),
        (12_000, "12 s"),
        (60_000, "1 min"),
        (182_000, "3 min 2 s"),
        (3_600_000, "1 h"),
        (26 * HOUR_MS + 600_000, "26 h 10 min"),
        (50 * HOUR_MS, "2 d 2 h"),
    ],
)
def test_spans(ms: int, words: str) -> None:
    assert span(ms) == words


def test_stores_that_know_the_same_connection() -> None:
    first, second = connection("a", 1, 2), connection("b", 3, 4)
    assert newest([connection("a", 1), first, second, connection("b", 3)]) == [second, first]
    assert len(newest(connection(str(number), number, number + 1) for number in range(99))) == 50
