"""Commands under an idempotency key: the device gets each once, however often its sender asks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from gateway.channels.commands import Command, Outcome, Settled
from gateway.channels.envelopes import Carried, carried, settled_of
from gateway.channels.ports import Attempts, Claimed
from gateway.errors import BrokerDownError, KeyReusedError
from gateway.telemetry.log import Log

# A sender that lost its connection comes back within this time after the deadline.
KEPT_MS = 60_000
# Attempts under way in this process; each has a task.
MAX_UNDER_WAY = 10_000
_LOOK_AGAIN_S = 0.1
# The device has got it, or may have.
_SENT = (Outcome.DONE, Outcome.FAILED, Outcome.GONE, Outcome.TIMED_OUT)

_log = Log("commands")


class Keyed:
    """`attempts` says what became of a key, for all gateways. Owns a task for each attempt of this process."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._under_way: set[asyncio.Task[Settled]] = set()

    async def send(
        self, key: str, sender: str, command: Command, deadline_ms: int, send: Callable[[], Awaitable[Settled]]
    ) -> Settled:
        """What `send` settles, or settled when the same was asked before.

        Cancelled, the attempt goes on, and its result is there for who asks again. Raises KeyReusedError when the key
        stands for another command, BrokerDownError when nothing can be known of it.
        """
        name = _digest(command.account, sender, command.device, key).hex()
        request = _digest(command.name, command.args, command.idempotent, deadline_ms)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_ms / 1000
        while True:
            claim = await self._attempts.claim(name, request, deadline_ms + KEPT_MS)
            if claim.claimed is Claimed.OTHER:
                raise KeyReusedError("the idempotency key was used for another command to this device")
            if claim.claimed is Claimed.DONE:
                return settled_of(msgspec.json.decode(claim.answer, type=Carried))
            if claim.claimed is Claimed.NEW:
                return await asyncio.shield(self._begin(name, request, end_s, send))
            if loop.time() + _LOOK_AGAIN_S > end_s:
                return Settled(Outcome.TIMED_OUT, detail="the same command is under way")
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _begin(
        self, name: str, request: bytes, end_s: float, send: Callable[[], Awaitable[Settled]]
    ) -> asyncio.Task[Settled]:
        attempt = self._attempt(name, request, end_s, send)
        task = asyncio.get_running_loop().create_task(attempt, name="keyed command")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _attempt(
        self, name: str, request: bytes, end_s: float, send: Callable[[], Awaitable[Settled]]
    ) -> Settled:
        full = len(self._under_way) > MAX_UNDER_WAY
        settled = Settled(Outcome.BUSY) if full else await send()
        while not await self._noted(name, request, settled):
            if asyncio.get_running_loop().time() + _LOOK_AGAIN_S > end_s:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        return settled

    async def _noted(self, name: str, request: bytes, settled: Settled) -> bool:
        """Whether the next one who asks will know; what was not sent leaves the key free."""
        try:
            if settled.outcome in _SENT:
                await self._attempts.settle(name, request, msgspec.json.encode(carried(settled)), KEPT_MS)
            else:
                await self._attempts.release(name)
        except BrokerDownError as error:
            _log.warning("key_not_settled", problem=str(error))
            return False
        return True

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(parts)).digest()
