"""What a subscription says, and what is made of it: played by a fake client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.adapters.redis import inbox as module
from gateway.adapters.redis.inbox import Inbox


class FakePubSub:
    """Says these messages, then nothing more."""

    def __init__(self, *messages: dict[str, Any] | None, sharded: bool = True) -> None:
        self._messages = list(messages)
        self._sharded = sharded
        self.subscribed: list[str] = []

    def pubsub(self, **_: object) -> FakePubSub:
        return self

    async def ssubscribe(self, _: str) -> None:
        if not self._sharded:
            raise ResponseError("unknown command 'SSUBSCRIBE'")
        self.subscribed.append("sharded")

    async def subscribe(self, _: str) -> None:
        self.subscribed.append("plain")

    async def get_message(self, timeout: float | None) -> dict[str, Any] | None:  # noqa: ASYNC109 - as in redis-py
        if self._messages:
            return self._messages.pop(0)
        if timeout is None:
            await asyncio.get_running_loop().create_future()
        return None


def said(kind: str, data: object = 1) -> dict[str, Any]:
    return {"type": kind, "data": data}


async def opened(client: FakePubSub, taken: list[bytes] | None = None) -> Inbox:
    inbox = Inbox(client, "inbox", [].append if taken is None else taken.append)  # type: ignore[arg-type]
    await inbox.open()
    return inbox


@pytest.mark.parametrize("kind", ["ssubscribe", "subscribe", "sunsubscribe", "unsubscribe", "pong"])
async def test_whatever_is_no_message_after_the_confirmation_is_a_loss(kind: str) -> None:
    inbox = await opened(FakePubSub(said("ssubscribe"), None, said(kind)))
    with pytest.raises(RedisConnectionError, match=kind):
        await asyncio.wait_for(inbox.run(), 10)


async def test_a_subscription_that_is_not_confirmed_is_none() -> None:
    with pytest.raises(RedisTimeoutError):
        await opened(FakePubSub())
    with pytest.raises(RedisConnectionError):
        await opened(FakePubSub(said("sunsubscribe")))


async def test_servers_without_sharded_channels_get_plain_ones() -> None:
    client = FakePubSub(said("subscribe"), sharded=False)
    inbox = await opened(client)
    assert client.subscribed == ["plain"]
    assert inbox.message("other", b"x") == ("PUBLISH", "other", b"\x01x")
    assert (await opened(FakePubSub(said("ssubscribe")))).message("other") == ("SPUBLISH", "other", b"\x00")


async def test_one_bad_envelope_ends_nothing() -> None:
    def receive(envelope: bytes) -> None:
        taken.append(envelope)
        if envelope == b"bad":
            raise ValueError(envelope)

    taken: list[bytes] = []
    messages = [said("smessage", b"\x01" + data) for data in (b"a", b"bad", b"", b"b")]
    odd = [said("smessage", b""), said("smessage", b"\x02odd")]
    inbox = Inbox(FakePubSub(said("ssubscribe"), *odd, *messages), "inbox", receive)  # type: ignore[arg-type]
    await inbox.open()
    reading = asyncio.create_task(inbox.run())
    async with asyncio.timeout(10):
        while len(taken) < 4:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
    assert taken == [b"a", b"bad", b"", b"b"]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_a_beat_that_does_not_come_back_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_LATE_S", 0.05)
    inbox = await opened(FakePubSub(said("ssubscribe"), said("smessage", b"\x00")))
    reading = asyncio.create_task(inbox.run())
    await inbox.heard()
    with pytest.raises(RedisTimeoutError):
        await inbox.heard()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
