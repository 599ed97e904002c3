"""Dead letters: one JSON object a line, appended and synced."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import json

from gateway.adapters.durable_files import sync_folder
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Rejection

FILE_NAME = "dead-letters.jsonl"
# What `heiwa redrive` is at work on; there after a crash, and read again by the next one.
TAKEN_NAME = "dead-letters.redriving.jsonl"
# Not through a symbolic link: the content comes from devices.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class DeadLetterFile:
    """The DeadLetters port on a file of JSON lines: `time` (ms), `account`, `device`, `reason`, `event`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "dead-letters")

    async def append(self, letters: Sequence[tuple[DeviceEvents, Rejection]]) -> None:
        """See the port. A line that a crash cut short is ended first, so that it spoils no other."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, letters)

    def _append(self, letters: Sequence[tuple[DeviceEvents, Rejection]]) -> None:
        now_ms = self._clock.time_ms()
        lines = [
            _line(now_ms, group, rejection.reason, event) for group, rejection in letters for event in group.events
        ]
        try:
            new = not self._path.exists()
            descriptor = os.open(self._path, _FLAGS, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    lines.insert(0, b"")
                _write_all(descriptor, b"\n".join(lines) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                sync_folder(self._path.parent)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error


def _line(now_ms: int, group: DeviceEvents, reason: str, event: LocationEvent) -> bytes:
    """One letter. What JSON cannot hold, such as half of a surrogate pair, is written as Python shows it."""
    letter = {"time": now_ms, "account": group.account, "device": group.device, "reason": reason, "event": event}
    try:
        return json.encode(letter)
    except Exception:
        return json.encode({"time": now_ms, **{name: ascii(value) for name, value in letter.items() if name != "time"}})


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def take(path: Path) -> Path | None:
    """Take all letters away, for a redrive: the file they are in now; None: there are none.

    Those of a redrive that was broken off come first, so that at most one such file exists. A gateway that runs makes
    a new file for its next letter. Blocks. Raises StoreError.
    """
    taken = path.with_name(TAKEN_NAME)
    try:
        if not taken.exists():
            if not path.exists():
                return None
            path.rename(taken)
            sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    return taken
