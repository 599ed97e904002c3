"""The example devices against a real gateway that stops, starts again, and is killed: nothing they measured is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.example_clients import CLIENTS
from tests.support.fleet_program import free_port
from tests.support.program import Program, eventually

WITHIN_S = 40
# They measure each second.
MOST_BETWEEN_MS = 1900


@contextmanager
def running(command: list[str], program: Program, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        environment = os.environ | {"HEIWA_TOKEN": program.token("example")}
        process = subprocess.Popen([*command, program.url], env=environment, stdout=out, stderr=out)
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


@pytest.mark.parametrize("name", list(CLIENTS))
def test_an_example_outlives_its_gateway(name: str, tmp_path: Path) -> None:
    command, log = CLIENTS[name](), tmp_path / "device.log"
    settings = (f"listen.public=127.0.0.1:{free_port()}",)
    first = Program(tmp_path / "data", *settings)
    with first, running(command, first, log):
        stored(first, 2, log)
        assert first.terminate() == 0
        with Program(tmp_path / "data", *settings) as second:
            count = len(stored(second, 4, log))
            second.kill()
        with Program(tmp_path / "data", *settings) as third:
            times = stored(third, count + 3, log)
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) > 0
    assert max(gaps) < MOST_BETWEEN_MS, gaps
