"""The way to the server, held open: a connection for commands, one for the inbox, and both anew when either is lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from random import Random
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from gateway.adapters.redis.access import LOST, Access, Address, address_of, pool_of, told
from gateway.adapters.redis.inbox import BEAT_EVERY_S, Inbox
from gateway.adapters.redis.pipeline import Pipeline
from gateway.errors import BrokerDownError
from gateway.telemetry.log import Log

# All gateways come back at once: each waits for a time of its own, and never so long that people notice.
RETRY_S = (0.1, 1.0)
_BEAT_KEPT_MS = 10_000

_log = Log("broker")


class Script:
    """A script of the server, sent once and called by its name from then on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - the server's name for it


class Link:
    """`problem` "" while it is open. Made and used on one running event loop; `run` owns its tasks."""

    def __init__(self, access: Access, gateway: str, chance: Random) -> None:
        self.access = access
        self.gateway = gateway
        self.address: Address = address_of(access)
        self.problem = f"{self.address} was not asked yet"
        self.receive: Callable[[bytes], None] = lambda _: None
        self.returned: Callable[[], None] = lambda: None
        self._chance = chance
        self._pipeline: Pipeline | None = None
        self._inbox: Inbox | None = None

    async def ask(self, *command: str | bytes | int) -> Any:
        """The server's answer. Raises BrokerDownError, at once while the link is not open."""
        if self._pipeline is None:
            raise BrokerDownError(self.problem)
        return await self._pipeline.ask(*command)

    async def call(self, script: Script, keys: list[str], *arguments: str | bytes | int) -> Any:
        """The answer of a script. Raises BrokerDownError."""
        try:
            return await self.ask("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            # The server has started anew. Sent whole it runs, and is known from then on.
            return await self.ask("EVAL", script.text, len(keys), *keys, *arguments)

    async def post(self, gateway: str, envelope: bytes) -> bool:
        """See the port Broker."""
        inbox = self._inbox
        if inbox is None:
            raise BrokerDownError(self.problem)
        return bool(await self.ask(*inbox.message(self._channel(gateway), envelope)))

    def lend(self, pipeline: Pipeline, inbox: Inbox) -> None:
        """Use a connection that somebody else holds open."""
        self._pipeline, self._inbox, self.problem = pipeline, inbox, ""

    async def run(self) -> None:
        """Hold it open until cancelled."""
        while True:
            try:
                await self._hold()
            except* Exception as errors:
                error = _first(errors)
                if not isinstance(error, (*LOST, RedisError, BrokerDownError)):
                    # A defect, of ours or of the library: a new connection begins without what led to it.
                    _log.error("broker_failed", exc_info=error)
                self._lost(str(error) if isinstance(error, BrokerDownError) else told(self.address, error))
            await asyncio.sleep(self._chance.uniform(*RETRY_S))

    async def _hold(self) -> None:
        pool = pool_of(self.access)
        inbox = Inbox(Redis(connection_pool=pool), self._channel(self.gateway), self.receive)
        pipeline = Pipeline(pool, self.address)
        try:
            await inbox.open()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(inbox.run(), name="broker inbox")
                tasks.create_task(pipeline.run(), name="broker commands")
                await pipeline.ask(*inbox.message(self._channel(self.gateway)))
                await inbox.heard()
                await self._write(pipeline)
                tasks.create_task(self._beat(pipeline, inbox), name="broker beat")
                self.lend(pipeline, inbox)
                _log.info("broker_up", address=str(self.address), sharded=inbox.sharded)
                self.returned()
        finally:
            self._pipeline = self._inbox = None
            pipeline.abandon(self.problem or f"{self.address} was lost")
            with contextlib.suppress(*LOST, RedisError):
                await inbox.close()
            with contextlib.suppress(*LOST, RedisError):
                await pool.disconnect()

    async def _beat(self, pipeline: Pipeline, inbox: Inbox) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            with contextlib.suppress(BrokerDownError):
                await pipeline.ask(*inbox.message(self._channel(self.gateway)))
            await inbox.heard()
            await self._write(pipeline)

    async def _write(self, pipeline: Pipeline) -> None:
        """A server that takes no writes, for its memory is full or its disk, is as good as none: leases end there, and
        devices would be called offline. Raises BrokerDownError with its words."""
        await pipeline.ask("SET", self.access.key("beat", self.gateway), "", "PX", _BEAT_KEPT_MS)

    def _lost(self, problem: str) -> None:
        if problem != self.problem:
            _log.error("broker_down", problem=problem)
        self.problem = problem

    def _channel(self, gateway: str) -> str:
        return self.access.key("inbox", gateway)


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """The cause that came first; groups may hold groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
