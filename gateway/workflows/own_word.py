"""What a job said of its end counts more than what its runner saw of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.errors import StoreError
from gateway.telemetry.log import Log
from gateway.workflows.names import public_id
from gateway.workflows.ports import Report
from gateway.workflows.records import AttemptFound
from gateway.workflows.step import Failed, Finished, Happening

PAUSE_S = 1.0
_log = Log("workflows")


class OwnWord:
    """A `Report` that looks an end up in the store first: what the job said is on its way to the run already."""

    def __init__(self, report: Report, find: Callable[[str], Awaitable[AttemptFound | None]]) -> None:
        self._report = report
        self._find = find
        self._looking: set[asyncio.Task[None]] = set()

    def __call__(self, run: str, happening: Happening) -> None:
        if not isinstance(happening, Finished | Failed):
            self._report(run, happening)
            return
        task = asyncio.create_task(self._look(run, happening), name=f"workflow end {run}")
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, run: str, happening: Finished | Failed) -> None:
        while True:
            try:
                found = await self._find(public_id(run, happening.attempt))
            except StoreError as error:
                _log.warning("workflow_store_away", message=str(error))
                await asyncio.sleep(PAUSE_S)
                continue
            except Exception as error:
                # What was seen of it is better than no word: without one the attempt would stand for ever.
                _log.error("workflow_end_unread", exc_info=error, run=run, node=happening.attempt.path)
                found = None
            if found is None or not found.over:
                self._report(run, happening)
            return

    async def close(self) -> None:
        """What is not reported is asked for again by the next manager."""
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
