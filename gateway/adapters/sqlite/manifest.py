"""A small file beside SQLite files that says what they held, so that one that lost its content is noticed.

SQLite takes a file of 0 bytes for a new one. The manifest knows better: files of these stores never get smaller.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import DecodeError, Struct, field, json

from gateway.adapters.durable_files import write_whole
from gateway.adapters.sqlite.file import damaged, store_errors
from gateway.decoding import decoder
from gateway.telemetry.log import Log

# The smallest page that SQLite knows.
_MIN_BYTES = 512

_log = Log("locations")


class _Content(Struct):
    pages: dict[str, int] = field(default_factory=dict)
    cutoff_day: int | None = None


_read_content = decoder(_Content)


class Manifest:
    """How many pages each file held at least, and the cut-off of retention (days since the Unix epoch)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""
        self._content = _Content()

    @property
    def cutoff_day(self) -> int | None:
        """The first day that is kept; None: unknown."""
        return self._content.cutoff_day

    def load(self) -> None:
        """Read the file. One that is missing or cannot be read says nothing. Raises StoreError."""
        with store_errors(self._path):
            try:
                self._saved = self._read()
                self._content = _read_content(self._saved)
            except FileNotFoundError:
                return
            except DecodeError as error:
                _log.error("manifest_damaged", file=str(self._path), problem=str(error))

    def _read(self) -> bytes:
        # Reading a pipe would wait for a writer.
        if self._path.exists() and not self._path.is_file():
            raise DecodeError("it is not a regular file")
        return self._path.read_bytes()

    def save(self, cutoff_day: int | None = None) -> None:
        """Write it if anything has changed; all or nothing. A full disk is logged: the next save makes up for it."""
        if cutoff_day is not None:
            self._content.cutoff_day = cutoff_day
        content = json.encode(self._content)
        if content == self._saved:
            return
        try:
            write_whole(self._path, content)
        except OSError as error:
            _log.warning("manifest_not_saved", file=str(self._path), problem=error.strerror)
            return
        self._saved = content

    def names(self) -> list[str]:
        """The files it knows."""
        return list(self._content.pages)

    def held(self, name: str, pages: int) -> None:
        """Note the number of pages of a file."""
        self._content.pages[name] = pages

    def forget(self, name: str) -> None:
        """A file was dropped, or moved away."""
        self._content.pages.pop(name, None)

    def knows(self, path: Path) -> bool:
        """Whether there was such a file."""
        return path.name in self._content.pages

    def check_size(self, path: Path) -> None:
        """Before a file is opened, which would make a new store of an empty one. Raises DamagedStoreError."""
        with store_errors(path):
            if self.knows(path) and path.is_file() and (size_bytes := path.stat().st_size) < _MIN_BYTES:
                raise damaged(path, f"it holds {size_bytes} bytes and once held more")

    def check(self, path: Path, pages: int) -> None:
        """Raises DamagedStoreError when a file holds less than it once did."""
        expected = self._content.pages.get(path.name, 0)
        if pages < expected:
            raise damaged(path, f"it holds {pages} pages and once held {expected}, says {self._path.name}")
