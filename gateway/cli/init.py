"""`heiwa init opensearch`: make what we need in a cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from gateway.cli.options import Config, Json, Set, print_json
from gateway.errors import SettingsError
from gateway.settings.load import load
from gateway.settings.model import Locations

if TYPE_CHECKING:
    from gateway.adapters.opensearch.cluster import Change

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make what the gateway needs in other systems; harmless when repeated.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def init() -> None:
    """Make what the gateway needs in other systems; harmless when repeated."""


@app.command(epilog="Example: heiwa init opensearch --set locations.opensearch_url=https://search.example.com:9200")
def opensearch(config: Config = None, setting: Set = None, as_json: Json = False) -> None:
    """Make or renew the index template, the ingest pipeline, two indices and the retention policy."""
    import asyncio

    from gateway.app.location_parts import consistent

    locations = load(config, os.environ, setting or ()).settings.locations
    consistent(locations)
    if not locations.opensearch_url:
        raise SettingsError("locations.opensearch_url", "is empty: the embedded index needs no preparation")
    changes = asyncio.run(_init(locations))
    if as_json:
        print_json([change._asdict() for change in changes])
    else:
        width = max(len(change.name) for change in changes)
        for change in changes:
            typer.echo(f"{change.name:<{width}}  {change.done}")


async def _init(locations: Locations) -> list[Change]:
    from gateway.adapters.opensearch.cluster import Cluster
    from gateway.adapters.opensearch.connection import Connection
    from gateway.adapters.opensearch.definitions import Names
    from gateway.app.location_parts import opensearch_access

    connection = Connection(opensearch_access(locations))
    try:
        return await Cluster(connection, Names(locations.index_prefix), locations.retention_days).init()
    finally:
        await connection.close()
