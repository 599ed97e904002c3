"""Carries commands to the devices of this process, and their results back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import ceil
from random import Random
from typing import Any, Protocol

from gateway.channels.commands import Command, InFlight, Outcome, Progress, Settled
from gateway.clock import Clock
from gateway.connections.registry import Member, Registry
from gateway.waiting import Waiting
from gateway.wire.uuid7 import text_of, uuid7

# A connection has sent its first message by then, whatever its peer does.
_GREETED_AFTER_S = 1.0


class Writing(Protocol):
    """How a subprotocol writes a command."""

    def __call__(self, command: str, name: str, args: Any, deadline_ms: int) -> bytes: ...


Telling = Callable[[Progress], None]
Done = Callable[[Settled], None]


class _Waiter:
    __slots__ = ("done", "member", "told")

    def __init__(self, member: Member, done: Done, told: Telling | None) -> None:
        self.member = member
        self.done = done
        self.told = told


class LocalCourier:
    """`begin` and `send` are for those who want something done; everything else is called by sessions. `write` makes
    the message. All of it runs on the loop's thread."""

    def __init__(self, registry: Registry, clock: Clock, chance: Random, per_device: int, write: Writing) -> None:
        self._registry = registry
        self._clock = clock
        self._chance = chance
        self._write = write
        self._in_flight: InFlight[_Waiter] = InFlight(per_device)
        # By the loop's clock. One timer for all of them: a timer each takes a tenth of a command.
        self._deadlines = Waiting()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Commands that were sent and have no result."""
        return len(self._in_flight)

    def holds(self, account: str, device: str) -> bool:
        """Whether the newest connection of the device is here, and stays."""
        member = self._registry.newest(account, device)
        return member is not None and member.stays

    async def send(self, command: Command, deadline_ms: int, told: Telling | None = None) -> Settled:
        """Send it to the newest connection of the device, at most once, and wait for the result until the deadline.

        `told` is told what the device reports meanwhile, as often as it does. GONE_UNSENT: there is none that stays.
        Cancelled, nobody waits for the result any more; the device may carry it out all the same.
        """
        member = self._registry.newest(command.account, command.device)
        if member is not None and member.greets and member.stays:
            # Nothing leaves before the first message; it is out in a moment.
            await asyncio.sleep(min(_GREETED_AFTER_S, deadline_ms / 1000))
        waiter: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        begun = self.begin(command, deadline_ms, partial(_settle, waiter), told)
        if isinstance(begun, Settled):
            return begun
        try:
            return await waiter
        finally:
            self.give_up(begun)

    def begin(self, command: Command, deadline_ms: int, done: Done, told: Telling | None = None) -> str | Settled:
        """Send it now. Returns the name under which it can be given up, and `done` is told once, later, how it ended;
        or why it was not sent."""
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
        self._in_flight.add(name, member.slot, _Waiter(member, done, told))
        self._end_by(name, deadline_ms)
        # Before it leaves, the connection waits a moment for what is under way.
        member.expect(1)
        member.send(message)
        return name

    def give_up(self, command: str) -> None:
        """Nobody waits for the result any more; harmless when there was one."""
        self._deadlines.set(command, None)
        ended = self._in_flight.end(command)
        if ended is not None:
            ended[0].member.answer((), 1)

    def _end_by(self, command: str, deadline_ms: int) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_ms / 1000
        self._deadlines.set(command, ceil(end_s * 1000))
        if self._timer is None or end_s < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(end_s, self._end_late)

    def _end_late(self) -> None:
        loop = asyncio.get_running_loop()
        for _, command in self._deadlines.due(ceil(loop.time() * 1000), len(self._deadlines)):
            ended = self._in_flight.end(command)
            if ended is not None:
                waiter, progress = ended
                waiter.member.answer((), 1)
                waiter.done(Settled(Outcome.TIMED_OUT, progress=progress))
        next_ms = self._deadlines.next_ms()
        self._timer = None if next_ms is None else loop.call_at(next_ms / 1000, self._end_late)

    def report(self, member: Member, command: str, progress: Progress) -> None:
        """The device says how far it is. Late and foreign reports are dropped."""
        waiter = self._in_flight.report(command, member.slot, progress)
        if waiter is not None and waiter.told is not None:
            waiter.told(progress)

    def result(self, member: Member, command: str, settled: Settled) -> None:
        """The device is done. Late, doubled and foreign results are dropped."""
        waiter = self._in_flight.settle(command, member.slot)
        if waiter is not None:
            self._deadlines.set(command, None)
            member.answer((), 1)
            waiter.done(settled)

    def closed(self, member: Member) -> None:
        """The connection ended: what it was sent has no result."""
        # Their deadlines find nothing.
        for waiter in self._in_flight.gone(member.slot):
            waiter.done(Settled(Outcome.GONE))


def _settle(waiter: asyncio.Future[Settled], settled: Settled) -> None:
    if not waiter.done():  # else its sender has just given up
        waiter.set_result(settled)
