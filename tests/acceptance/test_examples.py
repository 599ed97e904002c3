"""The example devices against a real gateway that stops, starts again, and is killed: nothing they measured is lost."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from loadtest.processes.ports import free_port
from tests.support.example_clients import CLIENTS
from tests.support.program import Program, eventually, http_problem

WITHIN_S = 40
# A device that is an app as well, and watches itself.
SCOPE = "location:write location:read command:receive"
# They measure each second.
MOST_BETWEEN_MS = 1900


@contextmanager
def running(command: list[str], program: Program, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        environment = os.environ | {"HEIWA_TOKEN": program.token("example", SCOPE)}
        process = subprocess.Popen([*command, program.url, "device:example"], env=environment, stdout=out, stderr=out)
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.kill()
            process.wait(WITHIN_S)


def stored(program: Program, least: int, log: Path) -> list[int]:
    """The times of at least so many events."""
    times: list[int] = []

    def enough() -> bool:
        times[:] = sorted(event["time"] for event in program.found() if event["device"] == "example")
        return len(times) >= least

    eventually(enough, WITHIN_S, f"only {len(times)} events came: {log.read_text()}")
    return times


def command_of(program: Program, name: str, args: object) -> tuple[int, object]:
    """Send the example a command over HTTP: the status, and the value or the code of the device's error."""
    url = f"{program.operations}/api/v1/devices/example/commands"
    headers = {"Authorization": f"Bearer {program.token('app', 'command:send')}", "Content-Type": "application/json"}
    body = json.dumps({"name": name, "args": args}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=WITHIN_S) as answer:
            return answer.status, json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        return error.code, http_problem(error)["error"]["code"]


def watched(log: Path) -> int:
    """How many states of itself the example has shown; each language shows them in its own way."""
    return sum("connected" in line and "location" in line for line in log.read_text().splitlines())


# Some have to be compiled first, with all that they stand on.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", list(CLIENTS))
def test_an_example_outlives_its_gateway(name: str, tmp_path: Path) -> None:
    command, log = CLIENTS[name](), tmp_path / "device.log"
    settings = (f"listen.public=127.0.0.1:{free_port()}",)
    first = Program(tmp_path / "data", *settings)
    with first, running(command, first, log):
        stored(first, 2, log)
        assert command_of(first, "switch", {"on": True}) == (200, {"on": True})
        assert command_of(first, "jump", None) == (502, "unknown_command")
        eventually(lambda: watched(log) >= 2, WITHIN_S, "no events came")
        assert first.terminate() == 0
        with Program(tmp_path / "data", *settings) as second:
            count = len(stored(second, 4, log))
            second.kill()
        with Program(tmp_path / "data", *settings) as third:
            times = stored(third, count + 3, log)
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) > 0
    assert max(gaps) < MOST_BETWEEN_MS, gaps
