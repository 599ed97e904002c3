"""Plays a recording with the devices of one fleet process: each connects, sends and disconnects when it did then.

A recorded moment does not wait for earlier ones. A device that is to disconnect waits for its acks first, and when its
connection breaks meanwhile it reconnects as its client model does: no event that was sent is dropped to keep the pace.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from loadtest.fleet.device import OPEN
from loadtest.fleet.phases import GIVEN_UP, NEW, UP
from loadtest.fleet.population import Population
from loadtest.fleet.replay import AUTH, CONNECT, DISCONNECT, EVENTS, RecordingSummary, ReplayStep, lines, moments
from loadtest.fleet.sender import TICK_S

# Where a device is to be in the end: connected, or gone.
HERE, GONE = range(2)
_PING = b'{"type":"ping"}'


class Replayer:
    """`skipped` counts the pings and tokens that were due while their device was not connected."""

    def __init__(self, summary: RecordingSummary, population: Population, token: Callable[[int], str]) -> None:
        options = population.options
        self.skipped = 0
        self.here = summary.here_of(options.first, options.devices)
        self._summary = summary
        self._population = population
        self._token = token
        self._sender = population.sender
        self._wish = array("B", bytes(options.devices))
        # The intended moments of connects of devices that have not left their connection before yet.
        self._again_s: dict[int, deque[float]] = {}
        self._moments: Iterator[ReplayStep] = iter(())
        self._next: ReplayStep | None = None
        self._next_s = 0.0
        self._base_s = 0.0

    @property
    def playing(self) -> bool:
        """Whether steps are still to come."""
        return self._next is not None

    def begin(self, at_s: float) -> None:
        """The recording begins at `at_s` of the fleet's clock."""
        summary, options = self._summary, self._population.options
        after = options.first + options.devices
        played = moments(lines(summary.path), summary.numbers, summary.here)
        self._moments = (moment for moment in played if options.first <= moment.device < after)
        self._base_s = at_s
        self._advance()

    def turn(self, now_s: float) -> None:
        """Do the steps that are due by now."""
        while self._next is not None and self._next_s <= now_s + TICK_S / 10:
            self._act(self._next, self._next_s)
            self._advance()

    def pause(self, now_s: float) -> None:
        """Do no step that is not due yet."""
        self.turn(now_s)
        self._next = None

    def _advance(self) -> None:
        self._next = next(self._moments, None)
        if self._next is not None:
            at_s = self._base_s + self._next.at_ms / 1000 / self._population.options.speed
            # On the grid of ticks, so that waiting for a tick adds no latency.
            self._next_s = math.ceil(at_s / TICK_S) * TICK_S

    def _act(self, moment: ReplayStep, at_s: float) -> None:
        slot = moment.device - self._population.options.first
        if moment.do == EVENTS:
            self._sender.burst(slot, at_s, moment.events, moment.size)
        elif moment.do == CONNECT:
            self._come(slot, at_s)
        elif moment.do == DISCONNECT:
            self._wish[slot] = GONE
            self.settled(slot)
        else:
            self._say(slot, moment.do)

    def _come(self, slot: int, at_s: float) -> None:
        phase, wish = self._population.phases[slot], self._wish[slot]
        self._wish[slot] = HERE
        if phase in (NEW, GIVEN_UP):
            self._population.enlist(slot, at_s)
        elif phase == UP or wish == GONE:
            # A device that is late leaves first, and connects as often as was recorded.
            self._again_s.setdefault(slot, deque()).append(at_s)
            self.settled(slot)

    def _say(self, slot: int, what: int) -> None:
        device = self._population.devices[slot]
        if device is None or device.state != OPEN:
            self.skipped += 1
        elif what == AUTH:
            device.send(msgspec.json.encode({"type": "auth", "token": self._token(slot)}))
        else:
            device.send(_PING)

    # For the population

    def settled(self, slot: int) -> None:
        """The device was welcomed or answered: it leaves if it is to leave and none of its events is open."""
        device = self._population.devices[slot]
        going = self._wish[slot] == GONE or slot in self._again_s
        if going and device is not None and device.state == OPEN and not self._is_open(slot):
            self._population.dismiss(device)

    def over(self, slot: int) -> bool:
        """The connection of a device, or an attempt at one, is over; true: do not ask its client model."""
        if again_s := self._again_s.get(slot):
            self._population.enlist(slot, again_s.popleft())
            if not again_s:
                del self._again_s[slot]
            return True
        if self._wish[slot] == GONE and not self._is_open(slot):
            self._population.rest(slot)
            return True
        return False

    def _is_open(self, slot: int) -> bool:
        ledger = self._sender.ledger
        return bool(ledger.flying[slot] or ledger.stored[slot])
