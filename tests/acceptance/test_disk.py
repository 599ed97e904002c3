"""A full disk: nothing acknowledged is lost, the process lives on and recovers by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.packages import missing
from tests.support.program import Program, eventually, location, receive, send

SMALL_BYTES = 6 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB of its own."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        missing("needs root and mount(8) to make a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def lot(number: int) -> dict[str, object]:
    events = [location(f"e{number}-{index}", attributes={"pad": "x" * 900}) for index in range(50)]
    return {"type": "locations", "events": events}


def test_full_disk(small_disk: Path) -> None:
    folder = small_disk / "data"
    acked: set[str] = set()
    with Program(folder, "connections.bytes_per_s=0", "connections.messages_per_s=0") as program:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (1 << 20))
        with program.connect("dev") as connection:
            refused = None
            for number in range(400):
                connection.send(json.dumps(lot(number)))
                answers = 0
                while answers < 50:
                    message = receive(connection)
                    answers += len(message["ids"])
                    if message["type"] == "ack":
                        acked.update(message["ids"])
                    else:
                        refused = message
                if refused:
                    break
            assert refused is not None, "the disk never filled"
            assert refused["retry_after_ms"] > 0
            assert acked
            ballast.unlink()

            def works_again() -> bool:
                send(connection, location("after"))
                return bool(receive(connection)["type"] == "ack")

            eventually(works_again, 30, "it did not recover when there was room again")
            acked.add("after")
        assert program.metrics()["heiwa_locations_unaccounted_events"] == 0
        program.kill()
    with Program(folder) as program:
        eventually(lambda: acked <= {event["id"] for event in program.found()}, 30, "acknowledged events are lost")
        found = [event["id"] for event in program.found()]
        assert len(found) == len(set(found))
