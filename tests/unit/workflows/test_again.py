"""What is done again and again goes on, whatever one turn leads to."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import StoreError
from gateway.workflows import again as module
from gateway.workflows.again import again


async def test_no_turn_ends_those_after_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "MAX_PAUSE_S", 0.02)
    failures: list[Exception] = [StoreError("away"), ValueError("a row of a later version"), ValueError("again")]
    went_well = asyncio.Event()

    async def turn() -> None:
        if failures:
            raise failures.pop(0)
        went_well.set()

    task = asyncio.create_task(again(turn, 0.01))
    async with asyncio.timeout(10):
        await went_well.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["workflow_store_away", "workflow_turn_failed", "workflow_turn_failed"]
