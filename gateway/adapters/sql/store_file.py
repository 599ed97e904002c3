"""Opening the store where it is one SQLite file: what the file lost is noticed, and what is wrong names the file."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.durable_files import sync_folder
from gateway.adapters.sql.engine import store_errors
from gateway.adapters.sql.schema import migrate
from gateway.adapters.sqlite import file as sqlite_file
from gateway.adapters.sqlite.manifest import Manifest
from gateway.telemetry.log import Log

_log = Log("workflows")


async def open_file(engine: AsyncEngine, path: Path) -> None:
    """Bring the file to this program's schema. Raises StoreError, and DamagedStoreError for one that lost what it
    held: an empty file would else be taken for a new store, and all runs would be gone without a word."""
    manifest = Manifest(path.with_name(f"{path.name}.manifest"))
    await asyncio.to_thread(_before, manifest, path)
    pages = await _migrated(engine, path)
    manifest.check(path, pages)
    manifest.held(path.name, pages)
    await asyncio.to_thread(manifest.save)


def _before(manifest: Manifest, path: Path) -> None:
    manifest.load()
    if manifest.knows(path) and not path.exists():
        _log.error("workflow_store_missing", file=str(path))
        manifest.forget(path.name)
    manifest.check_size(path)
    # It holds the key of all attempts' secrets, and may lie outside the data folder.
    sqlite_file.make_private(path)


async def _migrated(engine: AsyncEngine, path: Path) -> int:
    """How many pages it has now."""
    with store_errors("schema"), sqlite_file.store_errors(path):
        try:
            if await migrate(engine):
                # A new file. SQLite syncs its name with the first log, but can be built not to.
                sync_folder(path.parent)
            async with engine.connect() as connection:
                return int((await connection.execute(text("PRAGMA page_count"))).scalar_one())
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from error
            raise
