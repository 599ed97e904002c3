"""A gateway records what arrives, and its recording is played against another one."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from gateway.recording.format import Connected, Disconnected, Line, Said
from loadtest.fleet.replay import lines, scan
from tests.support.loadtests import TIMEOUT_S, result_of, run
from tests.support.program import Program, eventually, location, receive, send

PLACE = ("35.681236", "139.767125")


def events(prefix: str, count: int) -> list[dict[str, object]]:
    place = {"lat": float(PLACE[0]), "lon": float(PLACE[1])}
    return [{"id": f"{prefix}{number}", "time": int(time.time() * 1000), **place} for number in range(count)]


def live(program: Program) -> None:
    """A day in the life of three devices: 26 events over 4 connections."""
    with program.connect("secret-dog") as dog, program.connect("secret-cat", account="tenant-x") as cat:
        for event in events("event-", 5):
            send(dog, {"type": "location", **event})
        send(cat, {"type": "locations", "events": events("stored-", 20)})
        send(cat, {"type": "ping", "id": "ping-id"})
        send(cat, {"type": "auth", "token": program.token("secret-cat", account="tenant-x")})
        send(dog, {"type": "secret-type"})
        receive(dog, "error")
        receive(cat, "authenticated")
    with program.connect("secret-dog") as dog:
        send(dog, location("last", lat=float(PLACE[0]), lon=float(PLACE[1])))
        receive(dog, "ack")
    with program.connect("secret-ant"):
        pass


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the gateway of `live` recorded."""
    path = tmp_path_factory.mktemp("recorded") / "arrivals.jsonl"
    with Program(path.parent / "data", options=("--record", str(path))) as program:
        live(program)
        assert program.terminate() == 0
        [ended] = [event for event in program.events() if event["event"] == "recording_ended"]
        assert (ended["lines"], ended["dropped"]) == (len(path.read_text().splitlines()), 0)
    return path


def of(found: list[Line], kind: type[Line]) -> list[Line]:
    return [line for line in found if isinstance(line, kind)]


def test_what_a_gateway_records(recording: Path) -> None:
    found = list(lines(recording))
    said = [line for line in found if isinstance(line, Said)]
    assert Counter(line.type for line in said) == {"location": 6, "locations": 1, "ping": 1, "auth": 1, "other": 1}
    assert sum(line.events for line in said) == 26
    assert [line.code for line in found if isinstance(line, Disconnected)] == [1000] * 4
    names = [line.device for line in found if isinstance(line, Connected)]
    assert len(names) == 4
    assert len(set(names)) == 3
    assert 0 <= found[0].at_ms <= found[-1].at_ms < 60_000


def test_a_recording_holds_no_secret(recording: Path) -> None:
    text = recording.read_text()
    for secret in ("secret", "tenant-x", "event-", "stored-", "ping-id", "eyJ", *PLACE, "35.68", "139.7"):
        assert secret not in text
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600


def test_a_recording_is_played_against_another_gateway(tmp_path: Path, recording: Path) -> None:
    done = run("run", "replay", str(recording), "--speed", "5", "--out", "out", "--keep-data", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the recording has 3 devices, 4 connects and 26 events" in done.stdout
    assert "cannot be sent again: 1 other" in done.stdout
    figures = result_of(tmp_path / "out").figures
    assert figures["sent"] == figures["acked"] == 26
    assert figures["connects"] == 4
    assert figures["lost"] == figures["doubled"] == figures["unaccounted"] == figures["unexpected_close"] == 0
    assert result_of(tmp_path / "out").closed == {"1000": 4}


def test_several_processes_split_the_devices(tmp_path: Path, recording: Path) -> None:
    with Program(tmp_path / "data", "connections.flap_limit=0") as program:
        there = ("--target", program.url, "--secret-file", str(program.folder / "key"), "--search", program.operations)
        split = ("--set", "fleet.devices_each=1", "--set", "fleet.account=default")
        done = run("run", "replay", str(recording), "--speed", "20", *there, *split, "--out", "out", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        found = Counter((event["device"], event["id"]) for event in program.found())
    result = result_of(tmp_path / "out")
    assert len([process for process in result.processes if process.role == "fleet"]) == 3
    assert (result.figures["sent"], result.figures["lost"], result.figures["doubled"]) == (26, 0, 0)
    assert sorted(found.values()) == [1] * 26
    assert sorted(Counter(device for device, _ in found).values()) == [6, 20]


def test_a_kill_leaves_what_came_before_the_last_second(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.jsonl"
    with Program(tmp_path / "data", options=("--record", str(path))) as program, program.connect("dog") as dog:
        for event in events("e", 50):
            send(dog, {"type": "location", **event})
        eventually(lambda: len(path.read_text().splitlines()) == 52, 10, "it was not written")
        send(dog, {"type": "ping"})
        program.kill()
    assert 50 <= scan(path).events <= 51
    # As if it had been killed while it wrote.
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert scan(path).events == 49


def test_a_file_that_exists_is_refused(tmp_path: Path, recording: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gateway", "serve", "--record", str(recording)),
            *("--set", f"data.folder={tmp_path / 'data'}", "--set", "listen.public=127.0.0.1:0"),
            *("--set", "listen.operations=127.0.0.1:0"),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert scan(recording).events == 26


def test_wrong_usage_is_exit_2(tmp_path: Path, recording: Path) -> None:
    (tmp_path / "damaged").write_bytes(recording.read_bytes().replace(b'"connect"', b'"conect"', 1))
    (tmp_path / "newer").write_text(json.dumps({"kind": "header", "version": 9}))
    for arguments, said in (
        (("replay",), "name the recording"),
        (("steady", "--speed", "3"), "name the recording"),
        (("replay", "none"), "cannot read none"),
        (("replay", "damaged"), "damaged, line 2: Invalid value 'conect'"),
        (("replay", "newer"), "version 9 is not known"),
        (("replay", str(recording), "--speed", "0"), "replay.speed"),
        (("replay", str(recording), "--devices", "5"), "the recording says"),
    ):
        done = run("run", *arguments, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (2, True), (arguments, done.stderr)
    assert not (tmp_path / "out").exists()
