"""`heiwa redrive`: dead letters and Firehose's failures go into the index again.

The same event is one document however often it is sent, so a redrive that is broken off or repeated doubles nothing.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from gateway.adapters.clock import SystemClock
from gateway.adapters.data_folder import DataFolder
from gateway.adapters.dead_letters import FILE_NAME, DeadLetterFile, take
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.layout import INDEX_FOLDER
from gateway.app.location_parts import Index, consistent, opensearch_index
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents, items
from gateway.locations.outcome import Rejection
from gateway.locations.redriving import read
from gateway.settings.model import Settings

BATCH_EVENTS = 1000
# Firehose compresses its failure objects where the stream is told to (CompressionFormat GZIP).
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31
UNREADABLE_NAME = "dead-letters.unreadable.jsonl"


class Redriven(Struct):
    """What became of the letters: `stored` is in the index, `dead` was refused for good again, `later` not taken now,
    `unreadable` holds no event. All but the first stay, or are dead letters again. `why`: one reason of them."""

    stored: int = 0
    dead: int = 0
    later: int = 0
    unreadable: int = 0
    why: str = ""


async def redrive(settings: Settings, files: Sequence[Path]) -> Redriven:
    """Send everything. Raises HeiwaError; what was sent stays sent, and what was not is there for the next redrive."""
    consistent(settings.locations)
    folder = Path(settings.data.folder)
    clock = SystemClock()
    letters = DeadLetterFile(folder / FILE_NAME, clock)
    # The embedded index belongs to one process; OpenSearch does not.
    lock = None if settings.locations.opensearch_url else DataFolder.open(folder)
    try:
        index = _index(settings, clock)
        await index.open()
        try:
            return await _all(index, letters, folder, files)
        finally:
            await index.close()
    finally:
        if lock is not None:
            lock.close()


def _index(settings: Settings, clock: SystemClock) -> Index:
    if settings.locations.opensearch_url:
        return opensearch_index(settings, clock, random.Random())  # noqa: S311 - jitter
    found = settings.locations
    folder = Path(settings.data.folder) / INDEX_FOLDER
    return SQLiteLocationIndex(folder, clock, found.retention_days, found.index_max_bytes)


async def _all(index: Index, letters: DeadLetterFile, folder: Path, files: Sequence[Path]) -> Redriven:
    done = Redriven()
    for path in files:
        await _file(index, None, path, done)
    if not files and (taken := await asyncio.to_thread(take, folder / FILE_NAME)) is not None:
        size = await _file(index, letters, taken, done)
        await asyncio.to_thread(_forget, taken, size)
    return done


async def _file(index: Index, letters: DeadLetterFile | None, path: Path, done: Redriven) -> int:
    """Send one file, whose size in bytes is returned; what was not taken is written to `letters`, if given."""
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    lines, broken = await asyncio.to_thread(_lines, content)
    groups, others = read(lines)
    # What a broken file does not hold any more, nobody can count.
    done.unreadable += broken
    done.unreadable += len(others)
    if others and letters is not None:
        await asyncio.to_thread(_keep, path.with_name(UNREADABLE_NAME), others)
    for first in range(0, len(groups), BATCH_EVENTS):
        batch = groups[first : first + BATCH_EVENTS]
        rejections = await index.write(batch)
        _count(done, len(batch), list(rejections.values()))
        left = [
            (DeviceEvents(group.account, group.device, (event,)), rejections[position])
            for position, (group, event) in enumerate(items(batch))
            if position in rejections
        ]
        if left and letters is not None:
            await letters.append(left)
    return len(content)


def _lines(content: bytes) -> tuple[list[bytes], bool]:
    """Of a plain or a gzip file, which may have several members; and whether its end is missing or damaged."""
    if not content.startswith(_GZIP):
        return content.splitlines(), False
    parts: list[bytes] = []
    while content:
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            parts += [member.decompress(content), member.flush()]
        except zlib.error:
            return b"".join(parts).splitlines(), True
        if not member.eof:
            return b"".join(parts).splitlines(), True
        content = member.unused_data
    return b"".join(parts).splitlines(), False


def _forget(path: Path, size_bytes: int) -> None:
    """Remove what was sent; a letter that came at the last moment keeps the file for the next redrive."""
    if path.stat().st_size == size_bytes:
        path.unlink()


def _count(done: Redriven, number: int, rejections: Sequence[Rejection]) -> None:
    dead = sum(rejection.poison for rejection in rejections)
    done.dead += dead
    done.later += len(rejections) - dead
    done.stored += number - len(rejections)
    if rejections:
        done.why = rejections[0].reason


def _keep(path: Path, lines: Sequence[bytes]) -> None:
    with path.open("ab") as file:
        file.write(b"\n".join(lines) + b"\n")
