"""Announces to the directory who is connected here, in batches, and carries out what that leads to.

While the broker is away changes are kept, the newest of each device; on its return every connection is announced again,
and from time to time in any case: what the directory loses comes back, and what it keeps does not grow old.
"""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import islice

from gateway.channels.directory import KEPT_S, LEASE_S, Closed, Duplicates, Opened, Standing
from gateway.channels.envelopes import Displaced
from gateway.channels.peers import Peers
from gateway.channels.ports import Directory
from gateway.connections.connection import Connection
from gateway.connections.ending import DUPLICATE, REPLACED_ELSEWHERE
from gateway.connections.hub import Hub
from gateway.connections.info import DisconnectInfo
from gateway.connections.registry import Member
from gateway.errors import BrokerDownError
from gateway.telemetry.log import Log
from gateway.wire.uuid7 import text_of

# What comes within this time goes together.
TICK_S = 0.05
# Changes that are written at once: putting them together holds up the loop for 2 ms.
BATCH = 500
# Of devices that moved while the broker was away; beyond it the oldest are forgotten, and found out later.
MAX_KEPT = 200_000
_RENEW_S = LEASE_S / 5
_LEAVE_S = 1.0
# Each connection is announced again this often, long before its entry would be too old.
_ROUND_S = KEPT_S / 12

_Key = tuple[str, str] | tuple[str, str, str]
_Due = tuple[_Key, Member | Closed]
_log = Log("broker")


class Announcer:
    """A follower of the registry; `run` is its one task. Only connections that a device has one of are announced."""

    def __init__(self, hub: Hub, peers: Peers, directory: Directory) -> None:
        self._hub = hub
        self._peers = peers
        self._directory = directory
        self._rule = Duplicates(hub.settings.duplicates)
        # What is to be written: of a device which connection is open, and by the connection's name which ones ended. An
        # end goes before what is open then: one connection may replace another within a tick.
        self._pending: OrderedDict[_Key, Member | Closed] = OrderedDict()
        # By slot: when it was opened (monotonic), and its number in the directory; 0: none yet.
        self._opened_s = array("d")
        self._orders = array("q")
        self._due = asyncio.Event()
        self._again: Iterator[int] = iter(())
        self._round_s = 0.0
        self._renewed_s = float("-inf")
        self._leaving = False
        # Those that have to be told that a newer connection displaced theirs.
        self._displaced_due: deque[tuple[str, str, Displaced]] = deque(maxlen=MAX_KEPT)
        # The directory is about to be asked; it is being asked; what it answered to a connection of ours.
        self.asking: Callable[[], None] = lambda: None
        self.is_asking = False
        self.settled: Callable[[Opened, Standing, int], None] = lambda *_: None
        # The directory has lost what it knew, while the way to it was open.
        self.emptied: Callable[[], None] = self.returned
        # The gateways that had a lease when it was looked at last; `gone`: one of them has none any more.
        self.living: frozenset[str] = frozenset()
        self.gone: Callable[[], None] = lambda: None
        peers.serve(Displaced, self._displaced)

    # What the registry tells

    def joined(self, member: Member) -> None:
        """It is open."""
        while member.slot >= len(self._orders):
            self._opened_s.append(0.0)
            self._orders.append(0)
        # A tick of the hub is too coarse: it decides which of two connections is the newer.
        self._opened_s[member.slot] = self._hub.clock.monotonic_s()
        self._orders[member.slot] = 0
        self.changed(member)

    def changed(self, member: Member) -> None:
        """It may do other things than before."""
        if member.profile.exclusive:
            self._put((member.profile.account.name, member.device), member)

    def left(self, member: Member, ended: DisconnectInfo) -> None:
        """It ended."""
        account, device = member.profile.account.name, member.device
        unsaid = self._pending.get((account, device)) is member
        if unsaid:
            del self._pending[account, device]
        # One whose token has become weaker was announced all the same.
        if member.profile.exclusive or unsaid or self._orders[member.slot]:
            self._end_of(Closed(account, device, self._name(member), ended))

    def returned(self) -> None:
        """The broker is there, at first or again, and may have lost everything."""
        self._again = iter(range(len(self._hub.holders)))
        self._renewed_s = float("-inf")
        self._due.set()

    def number(self, slot: int) -> int:
        """The number of a connection in the directory; 0: it has none yet."""
        return self._orders[slot] if slot < len(self._orders) else 0

    def holds(self, account: str, device: str) -> bool:
        """Whether the device has a connection here."""
        return bool(self._hub.registry.members(account, device))

    def missed(self, account: str, device: str, connection: str) -> None:
        """The directory names a connection of ours; forget it there, if we do not have it any more."""
        if (account, device) not in self._pending and self._held(account, device, connection) is None:
            self._end_of(Closed(account, device, connection, None))

    def _end_of(self, closed: Closed) -> None:
        self._put((closed.account, closed.device, closed.connection), closed)
        if (closed.account, closed.device) in self._pending:
            self._pending.move_to_end((closed.account, closed.device))

    def _put(self, key: _Key, what: Member | Closed) -> None:
        self._pending.pop(key, None)
        self._pending[key] = what
        if len(self._pending) > MAX_KEPT:
            self._pending.popitem(last=False)
        self._due.set()

    # The task

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_S):
                    await self._due.wait()
            await asyncio.sleep(TICK_S)
            self._due.clear()
            if self._peers.problem or self._leaving:
                continue
            try:
                await self._renew()
                while await self._write():
                    pass
            except BrokerDownError as error:
                _log.debug("not_announced", problem=str(error))
            except Exception as error:
                # One device that cannot be announced must not end what serves all others.
                _log.error("announcing_failed", connections=0, exc_info=error)

    @property
    def due(self) -> int:
        """Changes that are not written yet."""
        return len(self._pending)

    async def leave(self) -> None:
        """This gateway ends: write what is due, and from here on what names it counts for nothing."""
        self._leaving = True
        with contextlib.suppress(BrokerDownError, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                while await self._write():
                    pass
                await self._directory.leave()

    async def _renew(self) -> None:
        now_s = self._hub.clock.monotonic_s()
        if now_s - self._renewed_s >= _RENEW_S:
            known, first = await self._directory.renew(), self._renewed_s == float("-inf")
            self._renewed_s = now_s
            if not known and not first:
                _log.warning("directory_emptied")
                self.emptied()
            await self._look_at_others()
        if now_s - self._round_s >= _ROUND_S:
            self._round_s = now_s
            self._again = iter(range(len(self._hub.holders)))

    async def _look_at_others(self) -> None:
        """One that was killed says nothing of its devices: whoever watches them has to look again."""
        living = frozenset(await self._directory.gateways())
        lost, self.living = self.living - living, living
        for gateway in sorted(lost):
            _log.info("gateway_gone", gateway=gateway)
        if lost:
            self.gone()

    async def _write(self) -> bool:
        """Write what is due, at most a batch; whether there was something."""
        await self._tell_displaced()
        due = [self._pending.popitem(last=False) for _ in range(min(BATCH, len(self._pending)))]
        due += self._some_again(BATCH - len(due))
        if not due:
            return False
        await self._write_these(due)
        await self._tell_displaced()
        return True

    async def _write_these(self, due: list[_Due]) -> None:
        try:
            await self._ask(due)
        except (BrokerDownError, asyncio.CancelledError):
            self._put_back(due)
            raise
        except Exception as error:
            # One device that cannot be announced must not keep all others from it.
            await self._write_alone(due, error)

    async def _write_alone(self, due: list[_Due], error: Exception) -> None:
        failed = 0
        for position, (key, what) in enumerate(due):
            try:
                if self._stands(key, what):
                    await self._ask([(key, what)])
            except (BrokerDownError, asyncio.CancelledError):
                self._put_back(due[position:])
                raise
            except Exception as found:
                error, failed = found, failed + 1
        _log.error("announcing_failed", connections=failed, exc_info=error)

    async def _ask(self, due: list[_Due]) -> None:
        self.asking()
        self.is_asking = True
        try:
            # How old a connection is counts when it is written, however long that had to wait.
            changes = [what if isinstance(what, Closed) else self._announced(what) for _, what in due]
            standings = await self._directory.write(changes, self._rule)
            for change, standing in zip(changes, standings, strict=True):
                if isinstance(change, Opened):
                    self._settle(change, standing)
        finally:
            self.is_asking = False

    async def _tell_displaced(self) -> None:
        """What could not be told is told again: the directory names a rival once."""
        while self._displaced_due:
            gateway, account, displaced = one = self._displaced_due.popleft()
            try:
                await self._peers.tell(gateway, account, displaced)
            except (BrokerDownError, asyncio.CancelledError):
                self._displaced_due.appendleft(one)
                raise

    def _put_back(self, due: list[_Due]) -> None:
        for key, what in reversed(due):
            # What came meanwhile is newer.
            if key not in self._pending and self._stands(key, what):
                self._pending[key] = what
                self._pending.move_to_end(key, last=False)

    def _stands(self, key: _Key, what: Member | Closed) -> bool:
        """Who has left meanwhile has said so, and its slot may be another's."""
        return isinstance(what, Closed) or what in self._hub.registry.members(*key[:2])

    def _some_again(self, count: int) -> list[_Due]:
        """The next connections of a round over all of them."""
        holders = self._hub.holders
        held = (holders[slot] for slot in self._again if slot < len(holders))
        found: Iterator[_Due] = (
            ((holder.profile.account.name, holder.device), holder)
            for holder in held
            if isinstance(holder, Connection) and holder.profile.exclusive and holder.stays
        )
        return list(islice(found, count))

    def _settle(self, change: Opened, standing: Standing) -> None:
        connection = self._held(change.account, change.device, change.connection)
        if connection is not None:
            self._orders[connection.slot] = standing.order
            self.settled(change, standing, connection.slot)
        rival = standing.rival
        if rival is None or self._rule is Duplicates.ALLOW:
            return
        if standing.wins:
            if rival.gateway != self._peers.gateway:
                self._displaced_due.append((rival.gateway, change.account, Displaced(change.device, rival.connection)))
        elif connection is not None:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        """Another gateway has the connection that is to be kept."""
        if self._rule is Duplicates.REJECT:
            connection.close(DUPLICATE, "this device has another connection that may send")
        else:
            connection.leave(REPLACED_ELSEWHERE)

    async def _displaced(self, account: str, told: Displaced) -> None:
        connection = self._held(account, told.device, told.connection)
        if connection is not None:
            self._end(connection)

    # Connections and their numbers

    def _held(self, account: str, device: str, name: str) -> Connection | None:
        for member in self._hub.registry.members(account, device):
            if isinstance(member, Connection) and self._name(member) == name:
                return member
        return None

    def _name(self, member: Member) -> str:
        table = self._hub.table
        return text_of(table.id_high[member.slot], table.id_low[member.slot])

    def _announced(self, member: Member) -> Opened:
        slot = member.slot
        age_ms = int((self._hub.clock.monotonic_s() - self._opened_s[slot]) * 1000)
        return Opened(member.profile.account.name, member.device, self._name(member), age_ms, self._orders[slot])
