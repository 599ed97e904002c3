"""The names of the embedded stores' files in a data folder."""

from __future__ import annotations

INDEX_FOLDER = "locations"
SPOOL_NAME = "spool.db"
HISTORY_NAME = "history.db"
DAY_PREFIX = "locations-"
MANIFEST_NAME = "manifest.json"


def day_file_name(day: str) -> str:
    """The file of a day of the index, in INDEX_FOLDER; `day` is `YYYY-MM-DD` or a pattern."""
    return f"{DAY_PREFIX}{day}.db"
