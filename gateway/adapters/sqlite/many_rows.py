"""One statement for many rows: SQLite lets go of the interpreter's lock once a statement, and waits for it as often."""

from __future__ import annotations

# Statements of a few sizes are prepared once and kept; a list is padded with rows of -1 to the next one. (The driver
# looks for an adapter of NULL, in vain.) The largest stays below the 32,766 parameters that SQLite allows by default.
SIZES = (1, 4, 16, 32, 64, 128, 160, 192, 256, 384, 512, 1024, 2048, 4096)
_NO_ROW = -1


def values_of(rows: int, columns: int) -> str:
    """A list of that many rows, for a statement that leaves out those of -1. Its columns are column1, column2 …"""
    row = f"({','.join('?' * columns)})"
    return f"(VALUES {','.join([row] * rows)})"


def pad(values: list[object], columns: int) -> int:
    """Fill up with rows of -1 to the next size of statements; how many rows that is."""
    rows = len(values) // columns
    size = next(size for size in SIZES if size >= rows)
    values += [_NO_ROW] * ((size - rows) * columns)
    return size
