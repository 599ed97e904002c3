"""The ports Broker and Attempts on Redis or Valkey."""

from __future__ import annotations

from collections.abc import Callable

from gateway.adapters.redis.link import Link, Script
from gateway.channels.ports import Claim, Claimed

# KEYS: the attempt. ARGV: the request, how long it is kept (ms).
_CLAIM = Script("""
local found = redis.call('HMGET', KEYS[1], 'request', 'answer')
if found[1] then return found end
redis.call('HSET', KEYS[1], 'request', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {}
""")
# KEYS: the attempt. ARGV: the request, its answer, how long that is kept (ms).
_SETTLE = Script("""
redis.call('HSET', KEYS[1], 'request', ARGV[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
""")


class RedisBroker:
    """The Broker port."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def gateway(self) -> str:
        return self._link.gateway

    @property
    def problem(self) -> str:
        return self._link.problem

    def listen(self, receive: Callable[[bytes], None], returned: Callable[[], None]) -> None:
        self._link.receive, self._link.returned = receive, returned

    async def post(self, gateway: str, envelope: bytes) -> bool:
        return await self._link.post(gateway, envelope)

    async def run(self) -> None:
        await self._link.run()

    async def close(self) -> None:
        """Nothing: what `run` opened it has closed."""


class RedisAttempts:
    """The Attempts port."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def claim(self, key: str, request: bytes, ttl_ms: int) -> Claim:
        found = await self._link.call(_CLAIM, [self._key(key)], request, ttl_ms)
        if not found:
            return Claim(Claimed.NEW)
        asked, answer = found
        if asked != request:
            return Claim(Claimed.OTHER)
        return Claim(Claimed.RUNNING) if answer is None else Claim(Claimed.DONE, answer)

    async def settle(self, key: str, request: bytes, answer: bytes, ttl_ms: int) -> None:
        await self._link.call(_SETTLE, [self._key(key)], request, answer, ttl_ms)

    async def release(self, key: str) -> None:
        await self._link.ask("DEL", self._key(key))

    def _key(self, key: str) -> str:
        return self._link.access.key("attempt", key)
