"""What keeps location events, opened in order: index, overflow stream, spool, and the pipeline in front of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

from gateway.adapters.dead_letters import FILE_NAME, DeadLetterFile
from gateway.adapters.machine import raise_file_limit
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.layout import INDEX_FOLDER, SPOOL_NAME
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.app.location_parts import Index, Stream, limits, opensearch_index, overflow_stream
from gateway.app.parts import index_readers
from gateway.clock import Clock
from gateway.locations.outcome import Durability
from gateway.locations.pipeline import LocationPipeline
from gateway.locations.times import EventTimes
from gateway.settings.model import Settings

FLUSH_TIMEOUT_S = 5.0


class Stores(NamedTuple):
    """The running pipeline, the index behind it, which searches ask, and the stream for what overflows, if any."""

    searched: Index
    stream: Stream | None
    pipeline: LocationPipeline


async def open_stores(settings: Settings, folder: Path, clock: Clock, chance: Random, stack: AsyncExitStack) -> Stores:
    """Open them; `stack` gets what closes each. Raises StoreError, SchemaError or UnreachableError."""
    locations = settings.locations
    times = EventTimes(clock, locations.retention_days, lambda: index.newest_ms)
    index = _index(settings, folder, clock, chance, times)
    spool = SQLiteSpool(folder / SPOOL_NAME, locations.spool_max_bytes)
    stream = overflow_stream(locations, clock, chance)
    # They begin threads, or open connections, before they can fail.
    stack.push_async_callback(spool.close)
    if stream is not None:
        stack.push_async_callback(stream.close)
    stack.push_async_callback(index.close)
    await index.open()
    await spool.open()
    pipeline = LocationPipeline(
        index,
        spool,
        DeadLetterFile(folder / FILE_NAME, clock),
        clock,
        chance,
        stream=stream,
        ack_min=Durability(locations.ack_min),
        limits=limits(locations),
        times=times,
    )
    stack.push_async_callback(pipeline.stop, FLUSH_TIMEOUT_S)
    await pipeline.start()
    return Stores(index, stream, pipeline)


def _index(settings: Settings, folder: Path, clock: Clock, chance: Random, times: EventTimes) -> Index:
    locations = settings.locations
    if locations.opensearch_url:
        return opensearch_index(settings, clock, chance)
    return SQLiteLocationIndex(
        folder / INDEX_FOLDER,
        clock,
        locations.retention_days,
        locations.index_max_bytes,
        lambda: times.offset_ms,
        locations.account_max_bytes,
        index_readers(settings, raise_file_limit()),
    )
