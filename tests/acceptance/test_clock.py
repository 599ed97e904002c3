"""The gateway's own wall clock is wrong (libfaketime): nothing is thrown away, nothing is dropped, and it says so."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.support.packages import need
from tests.support.program import Program, eventually, location, receive, send

DAY_S = 86_400


@pytest.fixture
def faketime(tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """A file with the offset of the wall clock, and what goes before the command."""
    library = need("faketime", lambda: next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None))
    offset = tmp_path / "offset"
    offset.write_text("+0")
    prefix = (
        "env",
        f"LD_PRELOAD={library}",
        f"FAKETIME_TIMESTAMP_FILE={offset}",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    )
    return offset, prefix


def test_a_clock_that_is_far_ahead_drops_no_day(tmp_path: Path, faketime: tuple[Path, tuple[str, ...]]) -> None:
    offset, prefix = faketime
    folder = tmp_path / "data"
    with Program(folder, prefix=prefix) as program:
        with program.connect("dev", ttl_s=1e9) as connection:
            for days in range(6):
                sent = location(f"e{days}")
                send(connection, {**sent, "time": sent["time"] - days * DAY_S * 1000})
                assert receive(connection, "ack")["durability"] == "indexed"
            offset.write_text(f"+{40 * DAY_S}")

            def taken() -> bool:
                late = location("now")
                send(connection, {**late, "time": late["time"] + 40 * DAY_S * 1000})
                return bool(receive(connection)["type"] == "ack")

            eventually(taken, 10)
            offset.write_text("+0")
        assert {found["id"] for found in program.found()} == {"now", *(f"e{days}" for days in range(6))}
        assert program.terminate() == 0
    # Started with it, too.
    offset.write_text(f"+{40 * DAY_S}")
    with Program(folder, prefix=prefix):
        assert len(list((folder / "locations").glob("*.db"))) == 7


def test_a_clock_that_is_behind_makes_nobody_throw_events_away(
    tmp_path: Path, faketime: tuple[Path, tuple[str, ...]]
) -> None:
    offset, prefix = faketime
    offset.write_text(f"-{40 * DAY_S}")
    with Program(tmp_path / "data", prefix=prefix) as program:
        # Tokens of the right time are not valid yet there: these are made for any time.
        for account in ("a", "b", "c", "d", "e"):
            with program.connect("dev", account=account, ttl_s=1e9) as connection:
                for number in range(15):
                    send(connection, location(f"e{number}"))
                    nack = receive(connection, "nack")
                if account not in ("a", "b"):
                    assert nack["code"] == "clock"
                    assert nack["retry_after_ms"] > 0
        with urllib.request.urlopen(f"{program.operations}/readyz?verbose", timeout=10) as answer:
            assert answer.status == 200
            checks = {check["name"]: check for check in json.loads(answer.read())["checks"]}
        assert checks["clock"]["ok"]
        assert "days behind the events" in checks["clock"]["why"]
        assert program.metrics()["heiwa_clock_off"] == 1
        eventually(lambda: any(line["event"] == "clock_off" for line in program.events()), 5)


def test_a_clock_that_is_ahead_makes_a_lone_account_throw_nothing_away(
    tmp_path: Path, faketime: tuple[Path, tuple[str, ...]]
) -> None:
    offset, prefix = faketime
    offset.write_text(f"+{40 * DAY_S}")
    with Program(tmp_path / "data", prefix=prefix) as program:
        for device in ("d1", "d2", "d3"):
            with program.connect(device, ttl_s=1e9) as connection:
                send(connection, location("e"))
                nack = receive(connection, "nack")
        assert nack["code"] == "clock"
        assert nack["retry_after_ms"] > 0
        assert program.metrics()["heiwa_clock_off"] == 1
        with urllib.request.urlopen(f"{program.operations}/readyz?verbose", timeout=10) as answer:
            assert b"days ahead of the events" in answer.read()
        eventually(lambda: any(line["event"] == "clock_off" for line in program.events()), 5)


def test_clock_set_back(tmp_path: Path, faketime: tuple[Path, tuple[str, ...]]) -> None:
    """The wall clock jumps back an hour under way: connections and acks live on."""
    offset, prefix = faketime
    with Program(tmp_path / "data", "connections.heartbeat_s=1", prefix=prefix) as program:
        with program.connect("dev") as connection:
            send(connection, location("before"))
            assert receive(connection, "ack")["ids"] == ["before"]
            offset.write_text("-3600")
            send(connection, location("after"))
            assert receive(connection, "ack")["ids"] == ["after"]
            # Three heartbeats later nobody was taken for dead, and nothing was closed.
            with pytest.raises(TimeoutError):
                connection.recv(3)
            send(connection, location("last"))
            assert receive(connection, "ack")["ids"] == ["last"]
        assert {event["id"] for event in program.found()} == {"before", "after", "last"}
