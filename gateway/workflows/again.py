"""What is done again and again, whatever becomes of the store meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from gateway.errors import StoreError
from gateway.telemetry.log import Log

_log = Log("workflows")


async def again(turn: Callable[[], Awaitable[None]], pause_s: float) -> NoReturn:
    """Until cancelled. A store that is away is asked again after the pause."""
    while True:
        try:
            await turn()
        except StoreError as error:
            _log.warning("workflow_store_away", message=str(error))
        await asyncio.sleep(pause_s)
