"""What a broker is and what we may do on it, for `heiwa check`. Leaves nothing behind."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.adapters.redis.access import LOST, Access, address_of, pool_of, told
from gateway.adapters.redis.broker import RedisAttempts
from gateway.adapters.redis.directory import RedisDirectory
from gateway.adapters.redis.inbox import Inbox
from gateway.adapters.redis.link import Link
from gateway.adapters.redis.pipeline import Pipeline
from gateway.channels.directory import Closed, Duplicates, Opened
from gateway.errors import BrokerDownError, UnreachableError

NAME = "heiwa-check"


class Findings(NamedTuple):
    """`eviction` is the server's policy, "" when it does not tell; `refused` what it did not let us do, "": nothing."""

    product: str
    version: str
    sharded: bool
    eviction: str
    refused: str


async def look(access: Access) -> Findings:
    """Try everything that a gateway does. Raises UnreachableError, or SettingsError."""
    address = address_of(access)
    client = Redis(connection_pool=pool_of(access))
    inbox = Inbox(client, access.key("inbox", NAME), lambda _: None)
    try:
        # The handshake of the library shows an old server and a wrong password.
        await client.ping()
        information = await _information(client)
        await inbox.open()
        refused = await _tried(client, access, inbox)
    except (*LOST, RedisError) as error:
        raise UnreachableError(told(address, error)) from error
    finally:
        await inbox.close()
        await client.connection_pool.disconnect()
    product = "Valkey" if "valkey_version" in information else "Redis"
    version = str(information.get("valkey_version") or information.get("redis_version") or "?")
    return Findings(product, version, inbox.sharded, str(information.get("maxmemory_policy", "")), refused)


async def _information(client: Redis) -> dict[str, object]:
    """Empty where the user may not ask."""
    try:
        found: dict[str, object] = await client.info()
    except ResponseError:
        return {}
    return found


async def _tried(client: Redis, access: Access, inbox: Inbox) -> str:
    """Each of what a gateway asks for, once."""
    link = Link(access, NAME, Random(0))  # noqa: S311 - it never waits
    directory, attempts = RedisDirectory(link, lease_s=1), RedisAttempts(link)
    pipeline = Pipeline(client.connection_pool, link.address)
    link.lend(pipeline, inbox)
    opened, closed = Opened("", NAME, NAME, 0), Closed("", NAME, NAME, None)
    steps = (
        ("write the directory", lambda: directory.write([opened, closed], Duplicates.REPLACE)),
        ("read the directory", lambda: directory.find("", NAME)),
        ("keep a lease", directory.renew),
        ("list gateways", directory.gateways),
        ("watch channels", lambda: directory.watch("", NAME)),
        ("watch channels", lambda: directory.unwatch("", NAME)),
        ("keep idempotency keys", lambda: attempts.claim(NAME, b"", 1000)),
        ("keep idempotency keys", lambda: attempts.release(NAME)),
        ("publish", lambda: link.post(NAME, b"")),
        ("give back", directory.leave),
        ("give back", lambda: link.ask("DEL", *directory.keys_of("", NAME))),
    )
    async with pipeline.running():
        for what, step in steps:
            try:
                await step()
            except BrokerDownError as error:
                return f"it may not {what}: {error}"
    return ""
