"""The workflow store in one SQLite file that lost what it held: noticed at the start, and named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.errors import DamagedStoreError


def url(path: Path) -> URL:
    return parse_url(f"sqlite:///{path}")


async def filled(path: Path) -> None:
    store = SqlWorkflowStore(url(path))
    await store.open()
    try:
        await store.put_definition("acme", "nightly", b"{}", "0" * 64, 1)
    finally:
        await store.close()


async def opened(path: Path) -> bool:
    """Whether it opens, and still has its definition."""
    store = SqlWorkflowStore(url(path))
    try:
        await store.open()
        return await store.definition("acme", "nightly") is not None
    finally:
        await store.close()


@pytest.mark.parametrize("left", [0, 1, 511])
async def test_a_file_that_lost_everything_is_no_new_store(tmp_path: Path, left: int) -> None:
    path = tmp_path / "workflows.db"
    await filled(path)
    assert await opened(path)
    with path.open("r+b") as file:
        file.truncate(left)
    with pytest.raises(DamagedStoreError, match=rf"workflows\.db is damaged .*{left} bytes .*move the file away"):
        await opened(path)
    assert path.stat().st_size == left


async def test_a_file_that_lost_pages(tmp_path: Path) -> None:
    path = tmp_path / "workflows.db"
    await filled(path)
    manifest = tmp_path / "workflows.db.manifest"
    told = json.loads(manifest.read_bytes())
    told["pages"]["workflows.db"] += 1
    manifest.write_text(json.dumps(told))
    with pytest.raises(DamagedStoreError, match="once held"):
        await opened(path)


@pytest.mark.parametrize("content", [b"precious " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_what_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "workflows.db"
    path.write_bytes(content)
    with pytest.raises(DamagedStoreError, match=r"workflows\.db is damaged"):
        await opened(path)
    assert path.read_bytes() == content


async def test_a_file_that_was_moved_away_is_said_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "workflows.db"
    await filled(path)
    path.unlink()
    assert not await opened(path)
    assert "workflow_store_missing" in caplog.text
    caplog.clear()
    await filled(path)
    assert await opened(path)
    assert "workflow_store_missing" not in caplog.text
