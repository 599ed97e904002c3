"""The Directory port on Redis or Valkey. What has to happen at once happens in a script of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import DecodeError, json
from msgspec.structs import astuple

from gateway.adapters.redis.link import Link, Script
from gateway.channels.directory import (
    AT_ONCE_MS,
    KEPT_S,
    LEASE_S,
    Change,
    Duplicates,
    Entry,
    Holder,
    Opened,
    Standing,
)
from gateway.connections.info import DisconnectInfo
from gateway.wire.close_codes import Fault

# How a connection ended, without names of fields: small hashes are kept in half the memory.
_Last = tuple[int, int, str, Fault]
# A script holds up everybody else's commands: this many take the server about a millisecond.
CHANGES_A_CALL = 200
# An answer that took no longer tells the server's clock well enough; a slower one does when none came for so long.
_CLOCK_WITHIN_S = 0.1
_CLOCK_KEPT_S = 10.0

# An entry is a hash: `gateway` and `connection` while it is held, `order` of the newest connection, and `last`, which
# says how the last one ended.
_ALIVE = """
local lease = ARGV[1]
local function alive(gateway) return gateway and redis.call('EXISTS', lease .. gateway) == 1 end
local function living(key)
  local found = {}
  for _, gateway in ipairs(redis.call('SMEMBERS', key)) do
    if alive(gateway) then found[#found + 1] = gateway else redis.call('SREM', key, gateway) end
  end
  return found
end
"""
# KEYS: the counter, then for each change its entry and the set of who watches it.
# ARGV: lease, gateway, rule, for how long entries are kept (s), from which age on a number is one of the past (ms), the
# server's time of the sending (µs; 0: unknown); then four for each change: + connection age (ms) order, or - connection
# last and nothing. Ages are those of the sending: a server that hung carries out later what it was sent before, in any
# order, and would take the older of two connections for the newer.
_WRITE = Script(
    _ALIVE
    + """
local gateway, rule, kept_s, at_once_ms, sent_us = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local late_ms = sent_us > 0 and math.max(0, math.floor((now_us - sent_us) / 1000)) or 0
local counter = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now_us)
local function opened(entry, watchers, connection, age_ms, order)
  counter, age_ms = counter + 1, age_ms + late_ms
  if order == 0 then order = age_ms < at_once_ms and counter or counter - age_ms * 1000 end
  local held = redis.call('HMGET', entry, 'gateway', 'connection', 'order')
  local rival = held[1] and held[2] ~= connection and alive(held[1])
  local wins = true
  if rival then
    if rule == 'reject' then wins = order < tonumber(held[3]) else wins = order >= tonumber(held[3]) end
  end
  local said = string.format('%.0f', order)
  if wins then
    redis.call('HSET', entry, 'gateway', gateway, 'connection', connection, 'order', said)
    redis.call('EXPIRE', entry, kept_s)
  end
  return {said, rival and held[1] or '', rival and held[2] or '', wins and 1 or 0, living(watchers)}
end
local function closed(entry, connection, last)
  local held = redis.call('HMGET', entry, 'gateway', 'connection')
  if held[1] == gateway and held[2] == connection then
    redis.call('HDEL', entry, 'gateway', 'connection')
    if last ~= '' then
      redis.call('HSET', entry, 'last', last)
      redis.call('EXPIRE', entry, kept_s)
    end
  end
  return 0
end
local answers = {}
for number = 1, (#KEYS - 1) / 2 do
  local entry, watchers, at = KEYS[2 * number], KEYS[2 * number + 1], 3 + 4 * number
  if ARGV[at] == '+' then
    answers[number] = opened(entry, watchers, ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
  else
    answers[number] = closed(entry, ARGV[at + 1], ARGV[at + 2])
  end
end
redis.call('SET', KEYS[1], string.format('%.0f', counter))
return answers
"""
)
# KEYS: the entry. ARGV: lease.
_FIND = Script(
    _ALIVE
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local found = redis.call('HMGET', KEYS[1], 'gateway', 'connection', 'last', 'order')
return {alive(found[1]) and found[1] or '', found[2] or '', found[3] or '', found[4] or '0'}
"""
)
# KEYS: our lease, the set of gateways. ARGV: gateway, for how long (ms). Whether it was unknown, and the server's time.
_RENEW = Script(
    """
redis.call('SET', KEYS[1], '', 'PX', ARGV[2])
local time = redis.call('TIME')
return {redis.call('SADD', KEYS[2], ARGV[1]), time[1] * 1000000 + time[2]}
"""
)
# KEYS: a set of gateways. ARGV: lease.
_LIVING = Script(_ALIVE + "return living(KEYS[1])")


class RedisDirectory:
    """See the port. `lease_s` is how long a gateway counts that says nothing."""

    def __init__(self, link: Link, lease_s: float = LEASE_S) -> None:
        self._link = link
        self._lease_ms = int(lease_s * 1000)
        self._key = link.access.key
        self._lease = self._key("gateway", "")
        # The server's clock: how far it is ahead of ours (µs), and since when that is known (s).
        self._ahead_us = 0.0
        self._known_s = float("-inf")

    async def write(self, changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
        sent_us = self._server_us()
        standings: list[Standing] = []
        for first in range(0, len(changes), CHANGES_A_CALL):
            part = changes[first : first + CHANGES_A_CALL]
            keys = [self._key("counter")]
            arguments: list[str | bytes | int] = []
            for change in part:
                keys.append(self._entry(change.account, change.device))
                keys.append(self._watchers(change.account, f"device:{change.device}"))
                if isinstance(change, Opened):
                    arguments += ["+", change.connection, change.age_ms, change.order]
                else:
                    last = b"" if change.last is None else json.encode(astuple(change.last))
                    arguments += ["-", change.connection, last, ""]
            answers = await self._link.call(
                _WRITE, keys, self._lease, self._link.gateway, rule.value, KEPT_S, AT_ONCE_MS, sent_us, *arguments
            )
            standings += [_standing(answer) for answer in answers]
        return standings

    async def find(self, account: str, device: str) -> Entry | None:
        found = await self._link.call(_FIND, [self._entry(account, device)], self._lease)
        if not found:
            return None
        gateway, connection, last, order = found
        holder = Holder(gateway.decode(), connection.decode()) if gateway else None
        return Entry(holder, _read_last(last), int(order))

    async def renew(self) -> bool:
        gateway, loop = self._link.gateway, asyncio.get_running_loop()
        asked_s = loop.time()
        keys = [self._lease + gateway, self._key("gateways")]
        added, server_us = await self._link.call(_RENEW, keys, gateway, self._lease_ms)
        answered_s = loop.time()
        if answered_s - asked_s <= _CLOCK_WITHIN_S or answered_s - self._known_s > _CLOCK_KEPT_S:
            self._ahead_us = server_us - (asked_s + answered_s) / 2 * 1_000_000
            self._known_s = answered_s
        return not added

    def _server_us(self) -> int:
        """The server's clock now, as far as it is known; 0: not at all."""
        if self._known_s == float("-inf"):
            return 0
        return int(asyncio.get_running_loop().time() * 1_000_000 + self._ahead_us)

    async def leave(self) -> None:
        await self._link.ask("DEL", self._lease + self._link.gateway)
        await self._link.ask("SREM", self._key("gateways"), self._link.gateway)

    async def gateways(self) -> list[str]:
        return await self._living(self._key("gateways"))

    async def watch(self, account: str, channel: str) -> None:
        key = self._watchers(account, channel)
        await self._link.ask("SADD", key, self._link.gateway)
        await self._link.ask("EXPIRE", key, KEPT_S)

    async def unwatch(self, account: str, channel: str) -> None:
        await self._link.ask("SREM", self._watchers(account, channel), self._link.gateway)

    async def watchers(self, account: str, channel: str) -> list[str]:
        return await self._living(self._watchers(account, channel))

    def keys_of(self, account: str, device: str) -> tuple[str, str]:
        """What is kept about one device."""
        return self._entry(account, device), self._watchers(account, f"device:{device}")

    async def _living(self, key: str) -> list[str]:
        return [gateway.decode() for gateway in await self._link.call(_LIVING, [key], self._lease)]

    def _entry(self, account: str, device: str) -> str:
        # The length tells where the account ends, whatever is in it.
        return self._key("device", str(len(account)), account, device)

    def _watchers(self, account: str, channel: str) -> str:
        return self._key("watchers", str(len(account)), account, channel)


def _read_last(data: bytes) -> DisconnectInfo | None:
    """None: it is not known, or a newer version wrote it in another way."""
    try:
        return DisconnectInfo(*json.decode(data, type=_Last)) if data else None
    except DecodeError:
        return None


def _standing(answer: list[object] | int) -> Standing:
    if not isinstance(answer, list):
        return Standing()
    order, gateway, connection, wins, watchers = answer
    rival = Holder(gateway.decode(), connection.decode()) if gateway else None  # type: ignore[attr-defined]
    names = tuple(sorted(name.decode() for name in watchers))  # type: ignore[attr-defined]
    return Standing(int(order), rival, bool(wins), names)  # type: ignore[call-overload]
