"""Damage that searches met: named in the log, counted, and passed over."""

from __future__ import annotations

import threading
from pathlib import Path

from gateway.telemetry.log import Log

# More damaged rows of one file are not told apart.
MAX_ROWS = 1000

_log = Log("locations")


class Damage:
    """Reported by reading threads. A file is named once, and again when more of it turns out to be damaged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[Path, set[int]] = {}
        self._files: set[Path] = set()

    @property
    def rows(self) -> int:
        """How many damaged rows are known."""
        with self._lock:
            return sum(len(keys) for keys in self._rows.values())

    @property
    def files(self) -> int:
        """How many files could not be read to their end."""
        return len(self._files)

    def row(self, path: Path, key: int) -> None:
        """A row whose content does not fit its checksum or its key was left out."""
        with self._lock:
            keys = self._rows.setdefault(path, set())
            if key in keys or len(keys) >= MAX_ROWS:
                return
            keys.add(key)
            known = len(keys)
        if known & (known - 1) == 0:
            _log.error("rows_damaged", file=str(path), rows=known)

    def file(self, path: Path, problem: str) -> None:
        """A file could not be read any further."""
        with self._lock:
            known = path in self._files
            self._files.add(path)
        if not known:
            _log.error("day_damaged", file=str(path), problem=problem)

    def forget(self, path: Path) -> None:
        """The file is gone."""
        with self._lock:
            self._rows.pop(path, None)
            self._files.discard(path)
