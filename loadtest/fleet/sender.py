"""The events that devices send: their intended moments, the store on each device, acks and nacks."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from random import Random

from gateway.connections.timing_wheel import TimingWheel
from gateway.protocol.messages import Ack, Nack, Welcome
from loadtest.fleet.device import OPEN, DeviceConnection
from loadtest.fleet.events import MAX_PADDING_BYTES, EventFactory, size_of_each
from loadtest.fleet.faults import Faults
from loadtest.fleet.ledger import Ledger
from loadtest.fleet.spread import phase
from loadtest.fleet.tally import FleetTally
from loadtest.scenario.arrivals import Arrival, moments

TICK_S = 0.01
MAX_EVENTS = 65_535  # in a message
# Longer than any event of ours, so that a message of several stays within the server's limit.
EVENT_BYTES = 240
MIN_EVENT_BYTES = 100
# The events of a recording may be padded.
PADDED_EVENT_BYTES = EVENT_BYTES + MAX_PADDING_BYTES

ReportLost = Callable[[int, Sequence[int]], None]


class EventSender:
    """The events of all devices. Moments are seconds of the fleet's clock; the wall clock is `wall_s` ahead of it.

    `first` is the number of the device in slot 0, `window` the maximum number of unanswered events of a device.
    `report` is told the numbers of lost events.
    """

    def __init__(
        self,
        arrival: Arrival | None,
        ledger: Ledger,
        events: EventFactory,
        tally: FleetTally,
        wheel: TimingWheel,
        devices: Sequence[DeviceConnection | None],
        faults: Faults,
        *,
        first: int,
        window: int,
        wall_s: float,
        random: Random,
        report: ReportLost,
        acked: Callable[[int, int], None],
    ) -> None:
        self.ledger = ledger
        self.sending = False
        self._arrival = arrival
        self._events = events
        self._tally = tally
        self._wheel = wheel
        self._devices = devices
        self._mute = faults.mute
        self._faulty = faults.faulty
        self._first = first
        self._window = window
        self._wall_s = wall_s
        self._random = random
        self._report = report
        self._acked = acked
        self._max_message_bytes = 0  # the server's limit
        self._sizes: dict[int, int] = {}  # sizes of padded open events, by slot << 32 | number
        self._moments: Iterator[float] | None = None
        self._next_s = math.inf
        self._base_s = 0.0
        count = len(devices)
        self._max_events = array("H", [1]) * count  # the server's limit for a message of the device
        self._send_s = array("d", bytes(8 * count))  # the next intended moment of a device, 0: none
        self._retry_s = array("d", bytes(8 * count))  # stored events wait for this moment, 0: for none

    # When

    def begin(self, at_s: float, now_s: float) -> None:
        """Send from `at_s` on, as the law of arrivals says."""
        arrival = self._arrival
        if arrival is None or self.sending:
            return
        self.sending = True
        self._base_s = at_s = math.ceil(max(at_s, now_s) / TICK_S) * TICK_S
        if arrival.kind != "periodic":
            self._moments = moments(arrival, self._random)
            self._next_s = at_s + next(self._moments, math.inf)
            return
        for slot in range(len(self._devices)):
            # On the wheel's grid, so that waiting for a tick adds no latency.
            ticks = int(phase(self._first + slot) * arrival.period_s / TICK_S)
            self._set(slot, at_s + ticks * TICK_S)

    def pause(self) -> None:
        """Make no new events; stored ones are still sent."""
        self.sending = False
        self._moments = None
        self._next_s = math.inf
        for slot in range(len(self._send_s)):
            self._send_s[slot] = 0.0

    def turn(self, now_s: float) -> None:
        """Send the due events of an arrival law that is not periodic: each goes to a random device."""
        while self._next_s <= now_s and self._moments is not None:
            self._produce(self._random.randrange(len(self._devices)), self._next_s)
            self._next_s = self._base_s + next(self._moments, math.inf)

    def look(self, slot: int, now_s: float) -> None:
        """The timing wheel has come to this device."""
        due_s = self._send_s[slot]
        if due_s:
            # After a stall send one event for each moment that passed: being late must not lower the load.
            while due_s <= now_s + TICK_S / 10:
                self._produce(slot, due_s)
                assert self._arrival is not None
                due_s += self._arrival.period_s
            self._set(slot, due_s)
        retry_s = self._retry_s[slot]
        if retry_s:
            if retry_s <= now_s:
                self.flush(slot)
            else:
                self._wheel.schedule(slot, retry_s)

    # What comes from the server

    def welcomed(self, slot: int, welcome: Welcome) -> None:
        """The device is connected: it sends its stored events first."""
        self._max_events[slot] = max(1, min(welcome.max_events, MAX_EVENTS))
        self._max_message_bytes = welcome.max_message_bytes
        self.flush(slot)

    def disconnected(self, slot: int) -> None:
        self.ledger.disconnected(slot)
        self._retry_s[slot] = 0.0

    def acked(self, slot: int, ack: Ack, now_s: float) -> None:
        ledger, number_of = self.ledger, self._events.number_of
        record = (self._tally.faulty_ack if self._faulty[slot] else self._tally.ack).record
        for name in ack.ids:
            number = number_of(name)
            if number is None:
                continue
            intended_s = ledger.ack(slot, number)
            if intended_s is not None:
                record(now_s - intended_s)
                self._acked(slot, self._time_ms(intended_s))
                if self._sizes:
                    self._sizes.pop(slot << 32 | number, None)
        if ledger.stored[slot] and not self._retry_s[slot]:
            self.flush(slot)

    def nacked(self, slot: int, nack: Nack, now_s: float) -> None:
        for name in nack.ids:
            number = self._events.number_of(name)
            if number is None:
                continue
            if nack.retry_after_ms is None:
                self.ledger.refuse(slot, number)
                self._sizes.pop(slot << 32 | number, None)
            else:
                self.ledger.put_back(slot, number)
        if nack.retry_after_ms is not None:
            self._retry_s[slot] = now_s + max(TICK_S, nack.retry_after_ms / 1000)
            self._wheel.schedule(slot, self._retry_s[slot])
        elif self.ledger.stored[slot] and not self._retry_s[slot]:
            self.flush(slot)

    # Sending

    def flush(self, slot: int) -> None:
        """Send stored events, oldest first, as far as the window allows."""
        self._retry_s[slot] = 0.0
        ledger, each_bytes = self.ledger, PADDED_EVENT_BYTES if self._sizes else EVENT_BYTES
        limit = max(1, min(self._max_events[slot], self._max_message_bytes // each_bytes))
        while ledger.stored[slot] and self._writable(slot):
            taken = ledger.take(slot, min(limit, self._window - ledger.flying[slot]))
            if not taken:
                return
            sizes = self._sizes
            events = [(number, self._time_ms(at_s), sizes.get(slot << 32 | number, 0)) for number, at_s in taken]
            device = self._devices[slot]
            assert device is not None
            device.send(self._events.locations(self._first + slot, events))

    def burst(self, slot: int, intended_s: float, count: int, size: int) -> None:
        """Make `count` events at once, in one message of about `size` bytes when it can be sent now."""
        ledger, each = self.ledger, size_of_each(size, count)
        numbers = [ledger.make(slot) for _ in range(count)]
        if each > MIN_EVENT_BYTES:
            self._sizes.update((slot << 32 | number, each) for number in numbers)
        room = not ledger.stored[slot] and ledger.flying[slot] + count <= self._window
        fits = count <= self._max_events[slot] and max(size, count * EVENT_BYTES) <= self._max_message_bytes
        if room and fits and self._writable(slot):
            for number in numbers:
                ledger.fly(slot, number, intended_s)
            device, index, time_ms = self._devices[slot], self._first + slot, self._time_ms(intended_s)
            assert device is not None
            if count == 1:
                device.send(self._events.location(index, numbers[0], time_ms, each))
            else:
                device.send(self._events.locations(index, [(number, time_ms, each) for number in numbers]))
            return
        dropped = [gone for number in numbers if (gone := ledger.store(slot, number, intended_s)) is not None]
        if dropped:
            self._report(slot, dropped)

    def ids(self, numbers: Sequence[int]) -> list[str]:
        return [self._events.id_of(number) for number in numbers]

    def _produce(self, slot: int, intended_s: float) -> None:
        ledger = self.ledger
        number = ledger.make(slot)
        if not ledger.stored[slot] and ledger.flying[slot] < self._window and self._writable(slot):
            ledger.fly(slot, number, intended_s)
            device = self._devices[slot]
            assert device is not None
            device.send(self._events.location(self._first + slot, number, self._time_ms(intended_s)))
            return
        dropped = ledger.store(slot, number, intended_s)
        if dropped is not None:
            self._report(slot, (dropped,))

    def _writable(self, slot: int) -> bool:
        device = self._devices[slot]
        return device is not None and device.state == OPEN and device.transport is not None and not self._mute[slot]

    def _time_ms(self, intended_s: float) -> int:
        return round((intended_s + self._wall_s) * 1000)

    def _set(self, slot: int, at_s: float) -> None:
        self._send_s[slot] = at_s
        # Half a tick early, because the wheel rounds up and these moments are on its grid.
        self._wheel.schedule(slot, at_s - TICK_S / 2)
