"""The file of a recording, its thread, and disks that fail or stand still."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.adapters.recording_file import RecordingFile
from gateway.errors import SettingsError
from gateway.recording.format import Dropped, Line, Said, read
from tests.support.fake_clock import FakeClock

Write = Callable[[int, bytes], int]


def said(at_ms: int) -> Said:
    return Said(at_ms, "0123456789abcdef", 1, "ping", 15)


def lines_of(path: Path) -> list[Line]:
    return list(read(io.BytesIO(path.read_bytes()), path.name))


class Disk:
    """In the place of `os.write`: nothing is written before `go`, and nothing after `room` bytes.

    `tried` is set by the first call, `seen` when `awaited` is about to be written.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.tried = threading.Event()
        self.seen = threading.Event()
        self.awaited = b""
        self.room = 10**9
        self._write: Write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        self.tried.set()
        assert self.go.wait(30)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.awaited and self.awaited in data:
            self.seen.set()
        count = self._write(descriptor, data[: min(self.room, 50)])
        self.room -= count
        return count


def test_lines_are_written_in_their_order(tmp_path: Path) -> None:
    clock = FakeClock()
    file = RecordingFile(tmp_path / "r", clock)
    clock.advance(1.5)
    assert file.now_ms() == 1500
    for at_ms in range(5000):
        file.put(said(at_ms))
    file.close()
    file.close()
    assert lines_of(tmp_path / "r") == [said(at_ms) for at_ms in range(5000)]
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600


def test_lines_are_on_disk_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    file = RecordingFile(tmp_path / "r", FakeClock())
    assert disk.tried.wait(30)
    disk.go.set()
    file.close()


def test_an_existing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("mine")
    with pytest.raises(SettingsError, match=r"--record: .*r exists already; name another file"):
        RecordingFile(tmp_path / "r", FakeClock())
    assert (tmp_path / "r").read_text() == "mine"
    with pytest.raises(SettingsError, match="cannot make"):
        RecordingFile(tmp_path / "none" / "r", FakeClock())


def test_a_start_that_fails_leaves_no_file(tmp_path: Path) -> None:
    RecordingFile(tmp_path / "r", FakeClock()).discard()
    assert not (tmp_path / "r").exists()


def test_a_disk_that_stands_still_costs_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr(RecordingFile, "MAX_LINES", 100)
    file = RecordingFile(tmp_path / "r", FakeClock())
    assert disk.tried.wait(30)
    for at_ms in range(250):
        file.put(said(at_ms))
    disk.awaited = b'"at_ms":99,'
    disk.go.set()
    assert disk.seen.wait(30)
    file.put(said(300))
    file.close()
    found = lines_of(tmp_path / "r")
    assert found == [*(said(at_ms) for at_ms in range(100)), Dropped(300, 150), said(300)]


def test_a_full_disk_ends_the_recording_with_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(monkeypatch)
    disk.room = 330
    file = RecordingFile(tmp_path / "r", FakeClock())
    for at_ms in range(20):
        file.put(said(at_ms))
    disk.go.set()
    file.close()
    file.put(said(100))
    assert lines_of(tmp_path / "r") == [said(0), said(1), said(2)]
    [stopped] = [record for record in caplog.records if record.getMessage() == "recording_stopped"]
    assert vars(stopped)["fields"]["problem"] == "[Errno 28] No space left on device"
