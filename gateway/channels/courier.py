"""Carries commands to devices, whichever gateway holds them.

A device may move while a command is on its way. As long as it was not put on the wire, it is looked for again until the
deadline; once it was, only a command that says that it is idempotent is sent again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from math import ceil
from random import Random
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from gateway.channels.commands import Command, Outcome, Settled
from gateway.channels.keyed import Keyed
from gateway.channels.local import Done, LocalCourier, Telling
from gateway.channels.ports import Attempts
from gateway.channels.remote import RemoteCourier
from gateway.connections.registry import Registry
from gateway.telemetry.metrics import gauge

# Between two looks for a device that moves: it is away for a second or more.
_LOOK_AGAIN_S = (0.05, 0.5)
# Of a device that moves: it was somewhere else, or nowhere for a moment. GONE only of what may be sent twice.
_AGAIN = (Outcome.GONE_UNSENT, Outcome.OFFLINE, Outcome.UNKNOWN, Outcome.GONE)


class Courier:
    """`remote` None: this is the only gateway. `attempts` says what became of idempotency keys."""

    def __init__(
        self,
        local: LocalCourier,
        remote: RemoteCourier | None,
        registry: Registry,
        chance: Random,
        attempts: Attempts,
    ) -> None:
        self._keyed = Keyed(attempts)
        self._local = local
        self._remote = remote
        self._registry = registry
        self._chance = chance
        self._outcomes: Counter[Outcome] = Counter()

    async def send(
        self,
        account: str,
        device: str,
        name: str,
        args: Any,
        deadline_ms: int,
        *,
        idempotent: bool = False,
        told: Telling | None = None,
    ) -> Settled:
        """See `carry`."""
        return await self.carry(Command(account, device, name, args, idempotent), deadline_ms, told)

    async def carry(self, command: Command, deadline_ms: int, told: Telling | None = None) -> Settled:
        """Have the device carry it out, and wait for the result until the deadline.

        `told` is told what the device reports meanwhile: from another gateway the newest of each second. Cancelled,
        nobody waits for the result any more; the device may carry it out all the same.
        """
        settled = await self._send(command, deadline_ms, told)
        self._outcomes[settled.outcome] += 1
        return settled

    def begin(self, command: Command, deadline_ms: int, done: Done) -> str | Settled | None:
        """Send it now, if that needs no wait and it is sent once at most; None: it does, use `send`.

        Returns the name for `give_up`, and `done` is told once, later, how it ended; or why it was not sent.
        """
        if command.idempotent:
            return None
        begun = self._local.begin(command, deadline_ms, partial(self._ended, done))
        if isinstance(begun, Settled):
            if begun.outcome is Outcome.GONE_UNSENT:
                return None
            self._outcomes[begun.outcome] += 1
        return begun

    def give_up(self, name: str) -> None:
        """Nobody waits for the result of what `begin` named any more."""
        self._local.give_up(name)

    def _ended(self, done: Done, settled: Settled) -> None:
        self._outcomes[settled.outcome] += 1
        done(settled)

    async def send_once(self, key: str, sender: str, command: Command, deadline_ms: int) -> Settled:
        """The same under an idempotency key of the sender's; see Keyed.send."""
        return await self._keyed.send(key, sender, command, deadline_ms, lambda: self.carry(command, deadline_ms))

    async def close(self) -> None:
        """End what is under way without a sender."""
        await self._keyed.close()

    async def _send(self, command: Command, deadline_ms: int, told: Telling | None) -> Settled:
        loop = asyncio.get_running_loop()
        end_s, pause_s = loop.time() + deadline_ms / 1000, _LOOK_AGAIN_S[0]
        moves, gone = False, None
        while True:
            settled = await self._once(command, max(1, ceil((end_s - loop.time()) * 1000)), told)
            if settled.outcome is Outcome.GONE:
                gone = settled
            moves = moves or settled.outcome is Outcome.GONE_UNSENT or (gone is not None and command.idempotent)
            left_s = end_s - loop.time()
            if not moves or settled.outcome not in _AGAIN or left_s <= 0:
                # Whatever came later, it may have been carried out.
                return gone if gone is not None and settled.outcome in _AGAIN else settled
            await asyncio.sleep(min(pause_s * self._chance.uniform(0.5, 1), left_s))
            pause_s = min(2 * pause_s, _LOOK_AGAIN_S[1])

    async def _once(self, command: Command, deadline_ms: int, told: Telling | None) -> Settled:
        """Here where it is here, else where the directory says."""
        account, device = command.account, command.device
        if self._local.holds(account, device):
            return await self._local.send(command, deadline_ms, told)
        if self._remote is not None:
            return await self._remote.send(command, deadline_ms, told)
        if self._registry.newest(account, device) is not None:
            return Settled(Outcome.GONE_UNSENT)
        last = self._registry.last_disconnect(account, device)
        return Settled(Outcome.UNKNOWN if last is None else Outcome.OFFLINE, last)

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        yield gauge("heiwa_commands_in_flight", "Commands that were sent and have no result.", self._local.in_flight)
        outcomes = CounterMetricFamily("heiwa_commands", "Commands to devices, by outcome.", labels=["outcome"])
        for outcome in Outcome:
            outcomes.add_metric([outcome.value], self._outcomes[outcome])
        yield outcomes
