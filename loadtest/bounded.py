"""Reads files of unknown origin up to a limit: one endless line must not take the memory of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_TEXT_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 22


def text(path: Path, limit_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a small file. Raises OSError, and ValueError for a file that is larger or not UTF-8."""
    with path.open("rb") as file:
        payload = file.read(limit_bytes + 1)
    if len(payload) > limit_bytes:
        raise ValueError(f"is larger than {limit_bytes} bytes")
    return payload.decode()


def lines(file: BinaryIO, limit_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """The lines of a file with their ends. Raises ValueError naming the first line that is longer than the limit."""
    number = 0
    while line := file.readline(limit_bytes + 1):
        number += 1
        if len(line) > limit_bytes:
            raise ValueError(f"line {number} is longer than {limit_bytes} bytes")
        yield line


def tail(path: Path, limit_bytes: int) -> str:
    """The end of a file, such as a log. Raises OSError."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - limit_bytes))
        return file.read(limit_bytes).decode(errors="replace")
