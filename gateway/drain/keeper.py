"""Writes the receipts of drains, beside them: a disk that hangs must not hold up the pacing."""

from __future__ import annotations

import asyncio
import contextlib

from gateway.drain.ports import Receipts
from gateway.drain.receipt import Receipt
from gateway.errors import StoreError
from gateway.telemetry.log import Log


class Keeper:
    """`run` is the one task; `keep` and `flush` may be called at any moment from the same loop."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._log = Log("drain")
        self._unwritten: list[Receipt] = []
        self._more = asyncio.Event()

    def keep(self, receipt: Receipt) -> None:
        """Have it written soon."""
        self._unwritten.append(receipt)
        self._more.set()

    async def run(self) -> None:
        """Write until cancelled. What cannot be written is logged."""
        while True:
            await self._more.wait()
            self._more.clear()
            await self._write()

    async def flush(self, within_s: float) -> None:
        """Write what is still unwritten; give up after `within_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._write()

    async def _write(self) -> None:
        while self._unwritten:
            receipt = self._unwritten.pop(0)
            try:
                await asyncio.to_thread(self._receipts.keep, receipt)
            except Exception as error:
                # Whatever it is, thousands of connections must not end for a receipt.
                unforeseen = None if isinstance(error, StoreError) else error
                self._log.error("receipt_not_written", exc_info=unforeseen, error=str(error))
