"""What is done again and again, whatever becomes of the store meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from gateway.errors import StoreError
from gateway.telemetry.log import Log

# After what nobody foresaw the pause is twice as long each time, up to this.
MAX_PAUSE_S = 60.0
_log = Log("workflows")


async def again(turn: Callable[[], Awaitable[None]], pause_s: float) -> NoReturn:
    """Until cancelled. A store that is away is asked again after the pause; what nobody foresaw ends nothing else."""
    failures = 0
    while True:
        try:
            await turn()
            failures = 0
        except StoreError as error:
            _log.warning("workflow_store_away", message=str(error))
        except Exception as error:
            failures += 1
            _log.error("workflow_turn_failed", exc_info=error)
        await asyncio.sleep(max(pause_s, min(MAX_PAUSE_S, pause_s * 2 ** min(failures, 10))))
