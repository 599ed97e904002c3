"""One search at a time of each account, so that one account never holds all reading threads."""

from __future__ import annotations

import asyncio
from collections import deque


class AccountTurns:
    """Used on one event loop. Nothing is kept of an account that does not search."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, account: str) -> None:
        """Wait for the account's turn. Cancelled, it has taken none."""
        waiting = self._waiting.get(account)
        if waiting is None:
            self._waiting[account] = deque()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(account)
            else:
                waiting.remove(turn)
            raise

    def give_back(self, account: str) -> None:
        """The search has ended: the next one of the account may begin."""
        waiting = self._waiting[account]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[account]
