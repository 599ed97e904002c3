"""What `heiwa check` finds in a store of workflows. It writes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy.engine import URL

from gateway.adapters.sql import balancing
from gateway.adapters.sql.engine import make_engine, store_errors
from gateway.adapters.sql.schema import HEAD, found, is_usable
from gateway.errors import StoreError, UnreachableError


class StoreFound(NamedTuple):
    """`schema` None: there is none yet; `newest` is this version's; `usable`: it needs no migration first. `managers`
    are alive. `leads`: a rebalancer is active. `pooled`: who answers is not the server itself."""

    product: str
    schema: str | None
    newest: str
    usable: bool
    managers: int
    leads: bool
    pooled: bool


async def look(url: URL) -> StoreFound:
    """Of a PostgreSQL. Raises UnreachableError."""
    engine = make_engine(url)
    try:
        with store_errors("check"):
            async with engine.connect() as connection:
                version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
                product = f"PostgreSQL {version}"
                driver: Any = (await connection.get_raw_connection()).driver_connection
                pooled = await driver.fetchval("SELECT pg_backend_pid()") != driver.get_server_pid()
                schema = await connection.run_sync(found)
                usable = schema == HEAD or (
                    schema is not None and schema > HEAD and await connection.run_sync(is_usable)
                )
                if not usable:
                    return StoreFound(product, schema, HEAD, False, 0, False, pooled)
                seen = await balancing.fleet(connection, counted=False)
    except StoreError as error:
        raise UnreachableError(str(error)) from error
    finally:
        await engine.dispose()
    alive = sum(1 for one in seen.managers if one.left_s > 0)
    leads = seen.leader is not None and seen.leader.left_s > 0
    return StoreFound(product, schema, HEAD, True, alive, leads, pooled)
