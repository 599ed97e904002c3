"""What remembers the connections of devices: a store of this process, or OpenSearch for all of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from gateway.adapters.sqlite.history import SQLiteHistory
from gateway.adapters.sqlite.layout import HISTORY_NAME
from gateway.app.location_parts import opensearch_access
from gateway.app.peering import Peering
from gateway.app.tasks import Tasks
from gateway.channels.past import FleetPast, LocalPast
from gateway.clock import Clock
from gateway.connections.hub import Hub
from gateway.drain.drainer import Drainer
from gateway.history.ports import HistoryStore
from gateway.history.recorder import Recorder
from gateway.settings.model import Settings


async def open_history(
    settings: Settings, folder: Path, gateway: str, clock: Clock, stack: AsyncExitStack
) -> HistoryStore:
    """Open the store; `stack` gets what closes it. Raises StoreError or SchemaError."""
    locations = settings.locations
    store: HistoryStore
    if locations.opensearch_url:
        from gateway.adapters.opensearch.history import OpenSearchHistory

        access = opensearch_access(locations)
        store = OpenSearchHistory(access, locations.index_prefix, gateway, clock, locations.retention_days)
    else:
        store = SQLiteHistory(folder / HISTORY_NAME, gateway, clock, locations.retention_days)
    stack.push_async_callback(store.close)
    await store.open()
    return store


def start_recorder(hub: Hub, store: HistoryStore, tasks: Tasks, stack: AsyncExitStack) -> Recorder:
    """Begin before the first connection; `stack` gets what writes the last ends, after the connections."""
    recorder = Recorder(hub.table, store)
    hub.registry.followers += (recorder,)
    tasks.spawn("history", recorder.run())
    stack.push_async_callback(recorder.finish)
    return recorder


def drain_under_way(drainer: Drainer) -> tuple[str, int] | None:
    """Who began the drain that goes on, and when (ms); None: none does."""
    leaving = drainer.leaving
    return None if leaving is None else (leaving.origin.value, leaving.began_ms)


def past(store: HistoryStore, peering: Peering | None) -> LocalPast | FleetPast:
    """What is remembered here and elsewhere; one store that all gateways share has it all."""
    if peering is None or not isinstance(store, SQLiteHistory):
        return LocalPast(store)
    return FleetPast(store, peering.fleet)
