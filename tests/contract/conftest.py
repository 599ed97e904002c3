"""A workflow store on SQLite, and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from tests.support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/workflows.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        yield server.url()


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlWorkflowStore]:
    made = SqlWorkflowStore(parse_url(url))
    await made.open()
    yield made
    await made.close()
