"""A device connects, sends a recorded walk, gets durable acks, and is found; before and after a `kill -9`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.program import Program, location, receive, send

TRACK = Path(__file__).parents[2] / "loadtest" / "tracks" / "korita-zbevnica.gpx"


def walk(program: Program, count: int) -> dict[str, object]:
    command = [sys.executable, "-m", "gateway", "device", "--sub", "walker", "--url", program.url, "--json"]
    command += ["--set", f"data.folder={program.folder}", "--track", str(TRACK), "--speed", "0", "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    summary: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return summary


def test_a_recorded_walk_is_found_at_once_and_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with Program(folder) as program:
        walk(program, 300)
        before = list(program.found())
        assert len(before) == 300
        near = program.get("/api/v1/locations/search?near=45.38,14.14&radius_m=20000&limit=5")["events"]
        assert len(near) == 5
        assert near[0]["device"] == "walker"
        program.kill()
    with Program(folder) as program:
        assert list(program.found()) == before
        track = program.get("/api/v1/devices/walker/track?limit=1000")["events"]
        assert [event["id"] for event in reversed(track)] != []
        assert {event["id"] for event in track} == {event["id"] for event in before}


def test_resent_events_are_acknowledged_and_found_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for _ in range(2):
        with Program(folder) as program:
            with program.connect("dev") as connection:
                for _ in range(3):
                    send(connection, location("same", lat=1.5))
                    assert receive(connection, "ack")["ids"] == ["same"]
            assert [event["id"] for event in program.found()] == ["same"]
            program.kill()


def test_accounts_never_see_each_other(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        with program.connect("dev", account="a") as one, program.connect("dev", account="b") as other:
            send(one, location("x", lat=1.0))
            send(other, location("x", lat=2.0))
            assert receive(one, "ack")["ids"] == receive(other, "ack")["ids"] == ["x"]
            assert program.get("/api/v1/devices/dev", account="a")["latest"]["lat"] == 1.0
            assert program.get("/api/v1/devices/dev", account="b")["latest"]["lat"] == 2.0
            assert program.get("/api/v1/devices", account="c")["devices"] == []
        assert [event["lat"] for event in program.found("a")] == [1.0]
        assert [event["lat"] for event in program.found("b")] == [2.0]
        assert list(program.found("c")) == []


def test_conservation_is_zero(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        with program.connect("dev") as connection:
            for number in range(50):
                send(connection, location(f"n{number}"))
            acked: set[str] = set()
            while len(acked) < 50:
                acked.update(receive(connection, "ack")["ids"])
        assert program.metrics()["heiwa_locations_unaccounted_events"] == 0
