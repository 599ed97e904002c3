"""Carries commands to the devices of this process, and their results back."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Protocol

from gateway.channels.commands import Command, InFlight, Outcome, Progress, Settled
from gateway.clock import Clock
from gateway.connections.registry import Member, Registry
from gateway.wire.uuid7 import text_of, uuid7

# A connection has sent its first message by then, whatever its peer does.
_GREETED_AFTER_S = 1.0


class Writing(Protocol):
    """How a subprotocol writes a command."""

    def __call__(self, command: str, name: str, args: Any, deadline_ms: int) -> bytes: ...


class LocalCourier:
    """`send` waits; everything else is called by sessions on the loop's thread. `write` makes the message."""

    def __init__(self, registry: Registry, clock: Clock, chance: Random, per_device: int, write: Writing) -> None:
        self._registry = registry
        self._clock = clock
        self._chance = chance
        self._write = write
        self._in_flight: InFlight[asyncio.Future[Settled]] = InFlight(per_device)

    @property
    def in_flight(self) -> int:
        """Commands that were sent and have no result."""
        return len(self._in_flight)

    def holds(self, account: str, device: str) -> bool:
        """Whether the newest connection of the device is here, and stays."""
        member = self._registry.newest(account, device)
        return member is not None and member.stays

    async def send(self, command: Command, deadline_ms: int) -> Settled:
        """Send it to the newest connection of the device, at most once, and wait for the result until the deadline.

        GONE_UNSENT: there is none that stays. Cancelled, nobody waits for the result any more; the device may carry it
        out all the same.
        """
        member = self._registry.newest(command.account, command.device)
        if member is not None and member.greets and member.stays:
            # Nothing leaves before the first message; it is out in a moment.
            await asyncio.sleep(min(_GREETED_AFTER_S, deadline_ms / 1000))
            member = self._registry.newest(command.account, command.device)
        if member is None or not member.stays or member.greets:
            return Settled(Outcome.GONE_UNSENT)
        if not member.profile.may_receive:
            return Settled(Outcome.DEAF)
        if not self._in_flight.has_room(member.slot):
            return Settled(Outcome.BUSY)
        name = text_of(*uuid7(self._clock.time_ms(), self._chance.getrandbits(74)))
        message = self._write(name, command.name, command.args, deadline_ms)
        if len(message) > member.max_payload_bytes:
            said = f"the command makes {len(message)} bytes, and this device takes {member.max_payload_bytes}"
            return Settled(Outcome.TOO_LARGE, detail=said)
        return await self._result(member, name, message, deadline_ms)

    async def _result(self, member: Member, name: str, message: bytes, deadline_ms: int) -> Settled:
        waiter: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._in_flight.add(name, member.slot, waiter)
        # Before it leaves, the connection waits a moment for what is under way.
        member.expect(1)
        member.send(message)
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                return await waiter
        except TimeoutError:
            return Settled(Outcome.TIMED_OUT, progress=self._in_flight.progress(name))
        finally:
            if self._in_flight.forget(name):
                member.answer((), 1)

    def report(self, member: Member, command: str, progress: Progress) -> None:
        """The device says how far it is. Late and foreign reports are dropped."""
        self._in_flight.report(command, member.slot, progress)

    def result(self, member: Member, command: str, settled: Settled) -> None:
        """The device is done. Late, doubled and foreign results are dropped."""
        waiter = self._in_flight.settle(command, member.slot)
        if waiter is None:
            return
        member.answer((), 1)
        if not waiter.done():  # else its sender has just given up
            waiter.set_result(settled)

    def closed(self, member: Member) -> None:
        """The connection ended: what it was sent has no result."""
        for waiter in self._in_flight.gone(member.slot):
            if not waiter.done():
                waiter.set_result(Settled(Outcome.GONE))
