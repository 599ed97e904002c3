"""All devices of a fleet process: which are connected, when each reconnects, and what its faults do to it.

What is known of a device stands in columns by slot; an object exists only while it has a connection. One timing wheel
wakes all devices.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random

from gateway.connections.timing_wheel import TimingWheel
from loadtest.fleet.commander import Commander
from loadtest.fleet.connector import Connector
from loadtest.fleet.device import LEAVING, OPEN, OPENING, REFUSED, DeviceConnection
from loadtest.fleet.faults import SILENT, STALLED, Faults
from loadtest.fleet.guide import Guide, Stay
from loadtest.fleet.inbox import Inbox
from loadtest.fleet.opening import Opening
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.output import FirstEvents, Tell
from loadtest.fleet.phases import DONE, GIVEN_UP, NEW, TRYING, UP, WAITING, Phases
from loadtest.fleet.reconnects import Reconnects
from loadtest.fleet.sender import TICK_S, EventSender
from loadtest.fleet.tally import FleetTally
from loadtest.fleet.watching import Watching
from loadtest.scenario.arrivals import moments
from loadtest.scenario.client_models import ClientModel, Ended

# Longer than a minute, so that a device that sends once a minute is looked at once a minute.
WHEEL_BUCKETS = 8192
# From a close frame to the end of the connection. Real seconds: a gateway needs its time to answer at any speed.
CLOSE_TIMEOUT_S = 5.0
# A server pings after each heartbeat of silence; one that was not heard for this many heartbeats is gone.
SILENT_HEARTBEATS = 2.5

# What a load balancer answers when it has no target.
UNAVAILABLE = 503


class Population:
    """`now_s` is the fleet's clock as of the last turn; `clock` reads it anew. `tell` is told remarkable events."""

    def __init__(
        self,
        options: FleetOptions,
        connector: Connector,
        sender: Callable[[Population], EventSender],
        tally: FleetTally,
        clock: Callable[[], float],
        tell: Tell,
    ) -> None:
        self.options = options
        self.tally = tally
        self.now_s = clock()
        self.wheel = TimingWheel(self.now_s, TICK_S, WHEEL_BUCKETS)
        self.random = Random(f"{options.seed} {options.process}")
        self.finishing = False
        self.closing = False
        self.guide: Guide = Stay()
        self.faults = Faults(options)
        self._connector = connector
        self._clock = clock
        self._first = FirstEvents(tell)
        self._inbox = Inbox(self, self._first)
        self.heartbeat_s = 45.0
        self._wall_s = time.time() - self.now_s
        self._reconnects = Reconnects(options, self.random)
        self._waiting: deque[int] = deque()
        self._opening = Opening()
        self._make_columns(options.devices)
        states = self.states = Phases(self._reconnects.names, self._reconnects.model_of)
        self.phases, self.counts, self._enter = states.of, states.counts, states.enter
        self.watching = Watching(options, self.devices, tally, self.faults.faulty.__getitem__, self._wall_s)
        random = Random(f"{options.seed} {options.process} commands")
        self.commander = Commander(options, self.devices, tally, random)
        self.sender = sender(self)

    def _make_columns(self, count: int) -> None:
        self.devices: list[DeviceConnection | None] = [None] * count
        self.heard_s = array("d", bytes(8 * count))
        self._target = array("H", bytes(2 * count))
        # UP: the end of the handshake; WAITING and TRYING: the intended moment of the connect
        self._since_s = array("d", bytes(8 * count))
        self._lost_s = array("d", bytes(8 * count))  # when the last connection was lost, 0: there was none
        self._life_s = array("d", bytes(8 * count))  # when to look at the connection, 0: never

    @property
    def busy(self) -> bool:
        """Whether a device is to connect at a moment that matters."""
        coming = self.counts[WAITING] + self.counts[TRYING] > 0
        return coming or self._opening.busy or self.guide.playing or self.finishing

    # Commands

    def connect(self, at_s: float, slots: Iterable[int] | None = None) -> None:
        """Connect all devices (or these) that have not connected yet, from `at_s` on, as the arrival says."""
        new = (slot for slot in (range(len(self.phases)) if slots is None else slots) if self.phases[slot] == NEW)
        self._opening.begin(new, moments(self.options.connect, self.random), at_s)

    def cut(self, slots: Sequence[int], how: str, *, ours: bool = True, for_s: float = 0) -> None:
        """Break these connections, as if the path broke: `reset`, `fin`, `silent` (nothing passes any more), or `stall`
        (nothing passes for `for_s`, then the device goes on with the same connection if it still has it).

        Not `ours`: a load balancer did it, and the device counts a close that it did not ask for.
        """
        for slot in slots:
            device = self.devices[slot]
            if device is None or device.transport is None:
                continue
            if how == "silent":
                self._fall_silent(slot, device, SILENT, self.options.half_open_s)
            elif how == "stall":
                self._fall_silent(slot, device, STALLED, for_s)
            else:
                device.break_off(reset=how == "reset", ours=ours)

    def enlist(self, slot: int, at_s: float) -> None:
        """Connect a device that rests, as intended for `at_s`."""
        self._enter(slot, WAITING)
        self._enlist(slot, at_s)

    def dismiss(self, device: DeviceConnection) -> None:
        """Have a device leave with a close frame."""
        device.leave()
        self._at(device.slot, self._clock() + CLOSE_TIMEOUT_S)

    def rest(self, slot: int) -> None:
        """Keep a device away until it is enlisted; the time until then is no gap."""
        self._lost_s[slot] = 0.0
        self._enter(slot, NEW)

    def connected(self, target: int | None = None) -> list[int]:
        """The slots that are connected, to the connector's target `target` or, with None, to any."""
        return [
            slot
            for slot, phase in enumerate(self.phases)
            if phase == UP and (target is None or self._target[slot] == target)
        ]

    def finish(self) -> None:
        """End all faults, so that what is in flight can be answered."""
        self.finishing = True
        for slot in self.faults.end():
            device = self.devices[slot]
            if device is None:
                continue
            if self.faults.mute[slot]:
                self._wake_up(slot, device)
            elif device.transport is not None:
                device.transport.resume_reading()

    def close(self) -> None:
        """Leave with close frames; no device reconnects."""
        self.closing = True
        self._waiting.clear()
        self._opening.end()
        for slot, device in enumerate(self.devices):
            self._life_s[slot] = 0.0
            if device is None:
                self._enter(slot, DONE)
            elif device.state in (OPENING, OPEN):
                self.dismiss(device)
            elif not self._connector.cancel(slot):
                device.break_off()

    # Time

    def turn(self) -> None:
        """Do what is due by now."""
        self.now_s = now_s = self._clock()
        for slot, at_s in self._opening.due(now_s):
            self._enlist(slot, at_s)
        for slot in self.wheel.turn(now_s):
            self._look(slot, now_s)
        self.guide.turn(now_s)
        self.sender.turn(now_s)
        self.commander.turn(now_s)
        free = self.options.connects_at_a_time - self.counts[TRYING]
        while self._waiting and free > 0:
            self._try(self._waiting.popleft())
            free -= 1

    def _enlist(self, slot: int, at_s: float) -> None:
        """Queue a connect intended for `at_s`. The intended moment is on the grid of ticks, which are no latency."""
        self._since_s[slot] = math.ceil(at_s / TICK_S) * TICK_S
        self._waiting.append(slot)

    def _look(self, slot: int, now_s: float) -> None:
        life_s = self._life_s[slot]
        if life_s:
            if life_s <= now_s:
                self._life_s[slot] = 0.0
                if self.phases[slot] == WAITING:
                    self._enlist(slot, life_s)
                else:
                    self._live(slot, now_s)
            else:
                self.wheel.schedule(slot, life_s)
        self.sender.look(slot, now_s)

    def _live(self, slot: int, now_s: float) -> None:
        device = self.devices[slot]
        if device is None:
            return
        since_s = self._since_s[slot]
        if self.faults.mute[slot]:
            self._wake_up(slot, device)
        elif self.phases[slot] == TRYING or device.state in (OPENING, LEAVING, REFUSED):
            if not self._connector.cancel(slot):
                # A close without an answer is not in order. At the end all close at once, and some answers are late.
                device.break_off(ours=self.closing)
        elif _is_due(self.faults.silence_s(slot, since_s), now_s):
            self._fall_silent(slot, device, SILENT, self.options.half_open_s)
        elif _is_due(self.faults.churn_s(slot, since_s), now_s):
            self.dismiss(device)
        elif not self.faults.is_slow(slot) and _is_due(self._server_gone_s(slot), now_s):
            self._first.tell("silent", device=self.options.name(slot))
            device.break_off(ours=False)
        else:
            self.plan_look(slot, now_s)

    def plan_look(self, slot: int, now_s: float) -> None:
        """Set when to look next at a connection that is up."""
        self._life_s[slot] = 0.0
        since_s, gone_s = self._since_s[slot], self._server_gone_s(slot)
        due = [self.faults.silence_s(slot, since_s), self.faults.churn_s(slot, since_s)]
        if gone_s is not None:
            due.append(max(now_s + TICK_S, gone_s))
        known = [moment_s for moment_s in due if moment_s is not None]
        if known:
            self._at(slot, min(known))

    def _server_gone_s(self, slot: int) -> float | None:
        """When the device takes a server that stays silent for gone; None: never."""
        if not self._reconnects.model(slot).notices_silence:
            return None
        return self.heard_s[slot] + SILENT_HEARTBEATS * self.heartbeat_s

    def _at(self, slot: int, at_s: float) -> None:
        self._life_s[slot] = at_s
        self.wheel.schedule(slot, at_s)

    # The life of a connection

    def _try(self, slot: int) -> None:
        index = self._connector.target_of(slot)
        if index is None:
            # A load balancer without a target answers every request itself.
            self.tally.refused[UNAVAILABLE] += 1
            self._again(slot, Ended(refused_status=UNAVAILABLE))
            return
        self._target[slot] = index
        device = DeviceConnection(self, slot, self._connector.request(slot, index))
        self.devices[slot] = device
        self._enter(slot, TRYING)
        self._at(slot, self._clock() + (self.client_model_of(device).answer_s or self.options.connect_timeout_s))
        self._connector.open(device, index, self._failed)

    def _failed(self, device: DeviceConnection, error: OSError | None) -> None:
        self._first.tell(f"connect failed: {type(error).__name__}", error=str(error))
        self.on_refused(device, 0, None)

    def on_refused(self, device: DeviceConnection, status: int, retry_after_s: float | None) -> None:
        self.tally.refused[status] += 1
        if status:
            self._first.tell(f"refused with {status}", device=self.options.name(device.slot))
        self.devices[device.slot] = None
        self._connector.left(self._target[device.slot])
        self._again(device.slot, Ended(refused_status=status, retry_after_s=retry_after_s))

    def client_model_of(self, device: DeviceConnection) -> ClientModel:
        return self._reconnects.model(device.slot)

    def on_text(self, device: DeviceConnection, payload: bytes) -> None:
        self._inbox.take(device, payload, self._clock())

    def on_opened(self, device: DeviceConnection) -> None:
        slot, now_s = device.slot, self._clock()
        self.tally.connects += 1
        self.tally.bins.connected(now_s + self._wall_s)
        self.tally.connect.record(max(0.0, now_s - self._since_s[slot]))
        if self._lost_s[slot]:
            self.tally.gap.record(now_s - self._lost_s[slot])
        self._since_s[slot] = now_s
        self._enter(slot, UP)

    def on_ended(self, device: DeviceConnection) -> None:
        slot, now_s = device.slot, self._clock()
        self.tally.closed[device.code] += 1
        if not device.ours and device.goaway_ms < 0:
            self.tally.unexpected += 1
        self.devices[slot] = None
        self._connector.left(self._target[slot])
        self.faults.mute[slot] = 0
        if device.abnormal:
            self.tally.abnormal[self._reconnects.model_of[slot]] += 1
        self.sender.disconnected(slot)
        self.commander.moved(slot, now_s)
        uptime_s = now_s - self._since_s[slot]
        self._lost_s[slot] = now_s
        self.tally.bins.lost(now_s + self._wall_s)
        goaway_ms = None if device.goaway_ms < 0 else device.goaway_ms
        self._again(slot, Ended(device.clean, device.code, 0, None, goaway_ms, uptime_s))

    def _again(self, slot: int, ended: Ended) -> None:
        """A connection, or an attempt at one, is over: plan the device's next connect."""
        self._life_s[slot] = 0.0
        if self.closing:
            self._enter(slot, DONE)
            return
        if self.guide.over(slot):
            return
        wait_s = self._reconnects.wait_s(slot, ended)
        if wait_s is None:
            self._enter(slot, GIVEN_UP)
        elif wait_s <= 0:
            self._enter(slot, WAITING)
            self._enlist(slot, self._clock())
        else:
            self._enter(slot, WAITING)
            self._at(slot, self._clock() + wait_s)

    # Silence

    def _fall_silent(self, slot: int, device: DeviceConnection, kind: int, for_s: float) -> None:
        if device.transport is not None and not self.faults.mute[slot]:
            self.faults.mute[slot] = kind
            device.transport.pause_reading()
            self._at(slot, self.now_s + for_s)

    def _wake_up(self, slot: int, device: DeviceConnection) -> None:
        """End a silence: a SILENT device makes a new connection, a STALLED one goes on with the one it has."""
        if self.faults.mute[slot] == SILENT:
            self.faults.was_silent(slot)
            device.break_off()
        elif device.transport is not None:
            self.faults.mute[slot] = 0
            self.heard_s[slot] = self.now_s
            device.transport.resume_reading()
            self.plan_look(slot, self.now_s)
            self.sender.flush(slot)


def _is_due(moment_s: float | None, now_s: float) -> bool:
    return moment_s is not None and now_s >= moment_s
