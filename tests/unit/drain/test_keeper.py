"""Receipts are written beside the drain: whatever the disk does, only the log knows."""

from __future__ import annotations

import asyncio

import pytest

from gateway.drain.keeper import Keeper
from gateway.drain.leaving import Origin
from gateway.drain.receipt import Receipt
from gateway.errors import StoreError
from tests.support.draining import Fleet


class Failing:
    """A Receipts port that fails once, and then remembers."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.kept: list[Receipt] = []
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def keep(self, receipt: Receipt) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.kept.append(receipt)
        self._loop.call_soon_threadsafe(self.done.set)


@pytest.mark.parametrize("error", [StoreError("the disk is full"), RuntimeError("can't start new thread")])
async def test_a_receipt_that_cannot_be_written_ends_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet(1)
    fleet.drainer.order(Origin.API)
    fleet.drainer.cancel()
    receipt = fleet.drainer.last
    assert receipt is not None
    receipts = Failing(error)
    keeper = Keeper(receipts)
    keeping = asyncio.create_task(keeper.run())
    keeper.keep(receipt)
    keeper.keep(receipt)
    async with asyncio.timeout(10):
        await receipts.done.wait()
    assert receipts.kept == [receipt]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["receipt_not_written"]
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
