"""Commands between the devices of a fleet process: one sends over its own websocket, another carries it out.

Open loop: a command goes out at its intended moment, whatever became of those before it. Every one is accounted for:
sent = results + refused + timed out + cut + unanswered. Devices have no memory of what they carried out, as real ones
have none; the fleet remembers it for them.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from gateway.protocol.messages import Command, CommandResult
from loadtest.fleet.device import OPEN, DeviceConnection
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.tally import FleetTally
from loadtest.scenario.arrivals import Arrival, moments

# Draws of a sender until one is connected.
TRIES = 50
# An answer that is later than the deadline by this does not come.
GRACE_S = 5.0
# A command may fail as its device moves, and for this long before and after.
NEAR_S = 2.0
# It may have been carried out.
UNCERTAIN = frozenset({"timed_out", "gone"})

_encode = msgspec.json.Encoder().encode


class _Pending(NamedTuple):
    sender: int
    device: int
    intended_s: float
    sent_s: float


class _Failure(NamedTuple):
    device: int
    sent_s: float
    at_s: float


class Commander:
    """Slots are those of the population. Numbers of commands are this process's own: it has sender and device."""

    def __init__(
        self, options: FleetOptions, devices: Sequence[DeviceConnection | None], tally: FleetTally, random: Random
    ) -> None:
        self.sending = False
        self._options = options
        self._devices = devices
        self._tally = tally
        self._random = random
        self._moments: Iterator[float] | None = None
        self._next_s = math.inf
        self._base_s = 0.0
        self._numbers = 0
        self._pending: dict[int, _Pending] = {}
        self._carried: set[int] = set()
        self._failures: deque[_Failure] = deque()
        # When the device last came or went, 0: never.
        self._moved_s = array("d", bytes(8 * len(devices) if options.commands_per_s else 0))

    @property
    def pending(self) -> int:
        """Commands without an answer."""
        return len(self._pending)

    def begin(self, at_s: float) -> None:
        """Send from `at_s` on."""
        rate_per_s = self._options.commands_per_s
        if rate_per_s and not self.sending:
            self.sending = True
            self._base_s = at_s
            self._moments = moments(Arrival("poisson", rate_per_s), self._random)
            self._next_s = at_s + next(self._moments)

    def pause(self) -> None:
        """Send no more."""
        self.sending = False
        self._next_s = math.inf

    def turn(self, now_s: float) -> None:
        """Send what is due, and give up what will not be answered any more."""
        while self._next_s <= now_s and self._moments is not None:
            self._send(self._next_s, now_s)
            self._next_s = self._base_s + next(self._moments)
        overdue_s = now_s - self._options.command_deadline_s - GRACE_S
        while self._pending and next(iter(self._pending.values())).sent_s < overdue_s:
            del self._pending[next(iter(self._pending))]
            self._tally.commands["command_unanswered"] += 1
        # Whether the device moves is known a while later.
        while self._failures and self._failures[0].at_s < now_s - NEAR_S:
            self._judge(self._failures.popleft())

    def _send(self, intended_s: float, now_s: float) -> None:
        count = len(self._devices)
        self._numbers += 1
        self._tally.commands["command_sent"] += 1
        device = self._random.randrange(count)
        sender = next((slot for _ in range(TRIES) if self._is_open(slot := self._random.randrange(count))), None)
        if sender is None:
            self._tally.commands["command_cut"] += 1
            return
        self._pending[self._numbers] = _Pending(sender, device, intended_s, now_s)
        self._tell(
            sender,
            type="command",
            id=str(self._numbers),
            device=self._options.name(device),
            name="switch",
            args={"number": self._numbers, "on": True},
            deadline_ms=round(self._options.command_deadline_s * 1000),
        )

    def _is_open(self, slot: int) -> bool:
        device = self._devices[slot]
        return device is not None and device.state == OPEN

    # What comes from the server

    def carry_out(self, slot: int, command: Command) -> None:
        """A command came to a device: it does as it is told, however often."""
        number = command.args.get("number") if isinstance(command.args, dict) else None
        if isinstance(number, int):
            if number in self._carried:
                self._tally.commands["carried_twice"] += 1
            self._carried.add(number)
        self._tell(slot, type="result", command=command.id, ok=True, value={"on": True})

    def answered(self, result: CommandResult, now_s: float) -> None:
        """A sender has its result."""
        pending = self._take(result.id)
        if pending is not None:
            self._tally.commands["command_results"] += 1
            self._tally.command.record(now_s - pending.intended_s)

    def refused(self, name: str, code: str, now_s: float) -> None:
        """A sender is told that there is none."""
        pending = self._take(name)
        if pending is not None:
            self._tally.commands["command_timed_out" if code in UNCERTAIN else "command_refused"] += 1
            self._failures.append(_Failure(pending.device, pending.sent_s, now_s))

    def moved(self, slot: int, now_s: float) -> None:
        """A device came, or went: what it waits for does not come any more."""
        if self._moved_s:
            self._moved_s[slot] = now_s
        for number in [number for number, pending in self._pending.items() if pending.sender == slot]:
            del self._pending[number]
            self._tally.commands["command_cut"] += 1

    def end(self) -> None:
        """Judge what is left."""
        while self._failures:
            self._judge(self._failures.popleft())
        self._tally.commands["command_unanswered"] += len(self._pending)
        self._pending.clear()

    def _judge(self, failure: _Failure) -> None:
        moved_s = self._moved_s[failure.device]
        if not failure.sent_s - NEAR_S <= moved_s <= failure.at_s + NEAR_S:
            self._tally.commands["command_far"] += 1

    def _take(self, name: str) -> _Pending | None:
        return self._pending.pop(int(name), None) if name.isdigit() else None

    def _tell(self, slot: int, **message: Any) -> None:
        device = self._devices[slot]
        if device is not None:
            device.send(_encode(message))
