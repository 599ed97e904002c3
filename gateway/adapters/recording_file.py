"""The file of a recording, written by a thread of its own, so that no connection ever waits for this disk."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from pathlib import Path

from gateway.clock import Clock
from gateway.errors import SettingsError
from gateway.recording.format import VERSION, Dropped, Header, Line, encode_lines
from gateway.telemetry.log import Log

log = Log("recording")

# Encoding holds the interpreter's lock: a thousand lines are less than a millisecond of it.
LINES_AT_ONCE = 1000


class RecordingFile:
    """The Recording port on a file. What a full buffer or a failing disk costs is lines, counted in the log."""

    # About 15 MB, ten seconds of what one process takes.
    MAX_LINES = 100_000
    # A `kill -9` loses what came since the last write: less than a second.
    WRITE_EVERY_S = 0.5
    CLOSE_S = 2.0

    def __init__(self, path: Path, clock: Clock) -> None:
        """Make the file, readable by its owner only. Raises SettingsError when it exists or cannot be made."""
        self._clock = clock
        self._path = path
        self._lines: deque[Header | Line] = deque()
        self._dropped = 0
        self._noted = 0
        self._told = 0
        self._written = 0
        self._failed = False
        self._ending = threading.Event()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise SettingsError("--record", f"{path} exists already; name another file") from error
        except OSError as error:
            raise SettingsError("--record", f"cannot make {path}: {error.strerror}") from error
        self._began_s = clock.monotonic_s()
        self._lines.append(Header(VERSION))
        self._thread = threading.Thread(target=self._write, name="recording", daemon=True)
        self._thread.start()

    def put(self, line: Line) -> None:
        """See the port."""
        lines = self._lines
        if self._failed or len(lines) >= self.MAX_LINES:
            self._dropped += 1
            return
        if self._dropped > self._noted:
            # Here, and not in the thread: its clock would be ahead of lines that are on their way.
            lines.append(Dropped(line.at_ms, self._dropped - self._noted))
            self._noted = self._dropped
        lines.append(line)

    def now_ms(self) -> int:
        """See the port."""
        return int((self._clock.monotonic_s() - self._began_s) * 1000)

    def discard(self) -> None:
        """The start failed: leave no file behind."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def close(self) -> None:
        """Write what is left, for at most two seconds. Blocks. A second call does nothing."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._thread.join(self.CLOSE_S)
        log.info("recording_ended", file=str(self._path), lines=self._written, dropped=self._dropped)

    def _write(self) -> None:
        ending = False
        try:
            while not ending:
                ending = self._ending.wait(self.WRITE_EVERY_S)
                self._write_waiting()
        except OSError as error:
            self._failed = True
            self._dropped += len(self._lines)
            self._lines.clear()
            log.warning("recording_stopped", file=str(self._path), problem=str(error), lines=self._written)
        finally:
            os.close(self._file)

    def _write_waiting(self) -> None:
        """Write all that waits. Raises OSError, perhaps in the middle of a line, which readers leave out."""
        if lost := self._dropped - self._told:
            self._told += lost
            log.warning("recording_dropped", lines=lost)
        # Only this thread takes lines away, so what is counted here is there.
        while count := min(len(self._lines), LINES_AT_ONCE):
            lines = [self._lines.popleft() for _ in range(count)]
            self._write_all(encode_lines(lines))
            self._written += count

    def _write_all(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]
