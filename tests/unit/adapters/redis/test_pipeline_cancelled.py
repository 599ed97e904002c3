"""A pipeline ends when it is cancelled, whatever the library makes of that."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from gateway.adapters.redis.access import Address
from gateway.adapters.redis.pipeline import Pipeline
from gateway.errors import BrokerDownError


class Forgetful:
    """A connection whose send ends at the moment at which it is cancelled, as asyncio.wait_for has it before 3.12."""

    def __init__(self) -> None:
        self.sending = asyncio.Event()

    async def get_connection(self) -> Forgetful:
        return self

    def pack_commands(self, commands: list[Any]) -> list[Any]:
        return commands

    async def send_packed_command(self, packed: list[Any], *, check_health: bool) -> None:
        self.sending.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def read_response(self) -> None:
        await asyncio.Event().wait()


async def test_it_ends_although_the_cancellation_was_forgotten() -> None:
    connection = Forgetful()
    pipeline = Pipeline(connection, Address("127.0.0.1", 6379, "", 0, tls=False))  # type: ignore[arg-type]
    running = asyncio.create_task(pipeline.run())
    asked = asyncio.create_task(pipeline.ask("PING"))
    await connection.sending.wait()
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=10)
    assert done
    assert running.cancelled()
    with pytest.raises(BrokerDownError) as caught:
        await asked
    assert caught.value.sent
