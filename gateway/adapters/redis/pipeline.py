"""Commands of all callers, sent in one pipeline after the other: what comes while one is under way goes with the next.

No command is ever repeated. A caller that is cancelled leaves the connection alone: answers never change places.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.adapters.redis.access import LOST, Address, told
from gateway.errors import BrokerDownError

MAX_A_PIPELINE = 500
# About a second of the most that one gateway asks for.
MAX_WAITING = 20_000

Command = tuple[str | bytes | int, ...]


class Pipeline:
    """On one connection of the pool: when that is lost, so is the pipeline.

    Commands go to the connection itself: the library's own pipeline costs half as much again for each of them.
    """

    def __init__(self, pool: ConnectionPool, address: Address) -> None:
        self._pool = pool
        self._address = address
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()

    async def ask(self, *command: str | bytes | int) -> Any:
        """The answer. Raises BrokerDownError when there is none, or when the server refuses; NoScriptError."""
        if len(self._waiting) >= MAX_WAITING:
            raise BrokerDownError(f"{self._address} is too slow: {MAX_WAITING} commands wait")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Send what waits until cancelled. Raises one of LOST."""
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_A_PIPELINE], self._waiting[MAX_A_PIPELINE:]
                await self._send(connection, [one for one in batch if not one[1].done()])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have it run while the block lasts."""
        task = asyncio.create_task(self.run(), name="broker commands")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def abandon(self, problem: str) -> None:
        """What still waits was never sent."""
        waiting, self._waiting = self._waiting, []
        for _, answer in waiting:
            if not answer.done():
                answer.set_exception(BrokerDownError(problem))

    async def _send(self, connection: AbstractConnection, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            packed = connection.pack_commands([command for command, _ in batch])
            await connection.send_packed_command(packed, check_health=False)
            _heed_cancellation()
            answers = [await _answer(connection) for _ in batch]
        except BaseException as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(BrokerDownError(told(self._address, error), sent=True))
            raise
        lost: Exception | None = None
        for (_, answer), found in zip(batch, answers, strict=True):
            if isinstance(found, LOST):
                lost = found
            if answer.done():
                continue
            if isinstance(found, NoScriptError):
                answer.set_exception(found)
            elif isinstance(found, RedisError):
                answer.set_exception(BrokerDownError(told(self._address, found)))
            else:
                answer.set_result(found)
        if lost is not None:
            raise lost


def _heed_cancellation() -> None:
    """The library sends with asyncio.wait_for, which before Python 3.12 forgets a cancellation that comes as the send
    ends: at a stop with much to tell the process never ended. Raises CancelledError."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _answer(connection: AbstractConnection) -> Any:
    """The next answer; what the server refuses is an answer, too."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
