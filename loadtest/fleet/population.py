"""All devices of a fleet process: who is connected, who comes back when, who misbehaves.

What is known of a device stands in columns by slot; an object exists only while it has a connection. One timing wheel
wakes them all.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random

import msgspec

from gateway.connections.timing_wheel import TimingWheel
from gateway.decoding import Payload, decoder
from gateway.protocol.messages import Ack, Error, Goaway, Nack, Welcome
from loadtest.fleet.connector import Connector
from loadtest.fleet.device import LEAVING, OPEN, OPENING, REFUSED, DeviceConnection
from loadtest.fleet.guide import Guide, Stay
from loadtest.fleet.opening import Opening
from loadtest.fleet.options import HALF_OPEN, SLOW, FleetOptions
from loadtest.fleet.phases import DONE, GIVEN_UP, NEW, TRYING, UP, WAITING, Phases
from loadtest.fleet.sender import SILENT, STALLED, TICK_S, EventSender
from loadtest.fleet.tally import FleetTally
from loadtest.scenario.arrivals import moments
from loadtest.scenario.client_models import CLIENT_MODELS, ClientModel, Ended

# Longer than a minute, so that a device that sends once a minute is looked at once a minute.
WHEEL_BUCKETS = 8192
# From a close frame to the end of the connection; in a faster world shorter, but a busy machine needs a while.
CLOSE_TIMEOUT_S = 5.0
LEAST_CLOSE_TIMEOUT_S = 1.0
# A server that pings after each heartbeat of silence and is not heard for this many of them is gone.
SILENT_HEARTBEATS = 2.5

# What a load balancer says when it has no target.
UNAVAILABLE = 503

ServerMessage = Welcome | Ack | Nack | Goaway | Error
_decode: Callable[[Payload], ServerMessage] = decoder(ServerMessage)  # type: ignore[arg-type]

Tell = Callable[..., None]


class Population:
    """`now_s` is the fleet's clock as of the last turn; `clock` reads it anew. `tell` is told remarkable things."""

    def __init__(
        self,
        options: FleetOptions,
        connector: Connector,
        sender: Callable[[Population], EventSender],
        tally: FleetTally,
        clock: Callable[[], float],
        tell: Tell,
    ) -> None:
        count = options.devices
        self.options = options
        self.tally = tally
        self.now_s = clock()
        self.wheel = TimingWheel(self.now_s, TICK_S, WHEEL_BUCKETS)
        self.devices: list[DeviceConnection | None] = [None] * count
        self.heard_s = array("d", bytes(8 * count))
        self.mute = array("B", bytes(count))
        self.random = Random(f"{options.seed} {options.process}")
        self.finishing = False
        self.closing = False
        self.guide: Guide = Stay()
        self._connector = connector
        self._clock = clock
        self._tell = tell
        self._heartbeat_s = 45.0
        self._target = array("H", bytes(2 * count))
        # UP: the end of the handshake; WAITING and TRYING: when the connect was meant to be
        self._since_s = array("d", bytes(8 * count))
        self._lost_s = array("d", bytes(8 * count))  # when the last connection was lost, 0: there was none
        self._life_s = array("d", bytes(8 * count))  # when to look at the connection, 0: never
        self._retries = array("H", bytes(2 * count))
        self._client_models = [CLIENT_MODELS[name] for name in options.client_models]
        self._client_model_of = array("B", (options.client_model(slot) for slot in range(count)))
        self.faulty = array("B", (options.faults(slot) for slot in range(count)))
        self._faults = self.faulty[:]  # what of it is still to come
        self._waiting: deque[int] = deque()
        self._opening = Opening()
        states = self.states = Phases(list(options.client_models), self._client_model_of)
        self.phases, self.counts, self._enter = states.of, states.counts, states.enter
        self._wall_s = time.time() - self.now_s
        self._close_timeout_s = max(LEAST_CLOSE_TIMEOUT_S, CLOSE_TIMEOUT_S / options.speed)
        self._told: set[str] = set()
        self.sender = sender(self)

    @property
    def busy(self) -> bool:
        """Whether somebody is to connect at a moment that matters."""
        coming = self.counts[WAITING] + self.counts[TRYING] > 0
        return coming or self._opening.busy or self.guide.playing or self.finishing

    # Commands

    def connect(self, at_s: float, slots: Iterable[int] | None = None) -> None:
        """Open the connections of all devices (or these) that were not asked yet, from `at_s` on, by the arrival."""
        new = (slot for slot in (range(len(self.phases)) if slots is None else slots) if self.phases[slot] == NEW)
        self._opening.begin(new, moments(self.options.connect, self.random), at_s)

    def cut(self, slots: Sequence[int], how: str, *, ours: bool = True, for_s: float = 0) -> None:
        """Break these connections, as if the path broke: `reset`, `fin`, or `silent` (nothing passes any more).

        Not `ours`: who stands between did it, and the device counts it as a close it did not ask for. With `stall`
        nothing passes for `for_s`; then the device goes on with the same connection, if it still has one.
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
        """A device that rests connects, and was to do so at `at_s`."""
        self._enter(slot, WAITING)
        self._enlist(slot, at_s)

    def dismiss(self, device: DeviceConnection) -> None:
        """A device goes, with a close frame."""
        device.leave()
        self._at(device.slot, self.now_s + self._close_timeout_s)

    def rest(self, slot: int) -> None:
        """A device without a connection stays away until it is enlisted; the time until then is no gap."""
        self._lost_s[slot] = 0.0
        self._enter(slot, NEW)

    def connected(self, target: int | None = None) -> list[int]:
        """The slots that are connected, to one of the connector's targets or to any."""
        return [
            slot
            for slot, phase in enumerate(self.phases)
            if phase == UP and (target is None or self._target[slot] == target)
        ]

    def finish(self) -> None:
        """Misbehave no more, so that what is in flight can be answered."""
        self.finishing = True
        for slot, device in enumerate(self.devices):
            if device is None or (not self._faults[slot] and not self.mute[slot]):
                continue
            if self.mute[slot]:
                self._wake_up(slot, device)
            elif device.transport is not None:
                device.transport.resume_reading()
        self._faults = array("B", bytes(len(self._faults)))

    def close(self) -> None:
        """Leave with close frames; nobody comes back."""
        self.closing = True
        # All at once: a gateway needs its time for so many answers, however fast the world was.
        self._close_timeout_s = CLOSE_TIMEOUT_S
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
        """What is due by now."""
        self.now_s = now_s = self._clock()
        for slot, at_s in self._opening.due(now_s):
            self._enlist(slot, at_s)
        for slot in self.wheel.turn(now_s):
            self._look(slot, now_s)
        self.guide.turn(now_s)
        self.sender.turn(now_s)
        free = self.options.connects_at_once - self.counts[TRYING]
        while self._waiting and free > 0:
            self._try(self._waiting.popleft())
            free -= 1

    def _enlist(self, slot: int, at_s: float) -> None:
        """The device is to connect now; `at_s` is when it was meant to, on the grid of ticks, which are no latency."""
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
        if self.mute[slot]:
            self._wake_up(slot, device)
        elif self.phases[slot] == TRYING or device.state in (OPENING, LEAVING, REFUSED):
            if not self._connector.cancel(slot):
                # A close that nobody answers is not in order; at the end all close at once, and some answers are late.
                device.break_off(ours=self.closing)
        elif self._faults[slot] & HALF_OPEN and now_s >= self._half_open_s(slot):
            self._fall_silent(slot, device, SILENT, self.options.half_open_s)
        elif self._churns(slot) and now_s >= self._churn_s(slot):
            self.dismiss(device)
        elif self._is_silent(slot, now_s):
            self._tell_once("silent", device=self.options.name(slot))
            device.break_off(ours=False)
        else:
            self._plan(slot, now_s)

    def _plan(self, slot: int, now_s: float) -> None:
        """When to look next at a connection that is up."""
        due = []
        if self._client_models[self._client_model_of[slot]].notices_silence:
            due.append(max(now_s + TICK_S, self.heard_s[slot] + SILENT_HEARTBEATS * self._heartbeat_s))
        if self._faults[slot] & HALF_OPEN:
            due.append(self._half_open_s(slot))
        if self._churns(slot):
            due.append(self._churn_s(slot))
        if due:
            self._at(slot, min(due))

    def _is_silent(self, slot: int, now_s: float) -> bool:
        notices = self._client_models[self._client_model_of[slot]].notices_silence and not self._faults[slot] & SLOW
        return notices and now_s - self.heard_s[slot] >= SILENT_HEARTBEATS * self._heartbeat_s

    def _at(self, slot: int, at_s: float) -> None:
        self._life_s[slot] = at_s
        self.wheel.schedule(slot, at_s)

    # The life of a connection

    def _try(self, slot: int) -> None:
        index = self._connector.target_of(slot)
        if index is None:
            self._nowhere(slot)
            return
        self._target[slot] = index
        device = DeviceConnection(self, slot, self._connector.request(slot, index))
        self.devices[slot] = device
        self._enter(slot, TRYING)
        self._at(slot, self._clock() + (self.client_model_of(device).answer_s or self.options.connect_timeout_s))
        self._connector.open(device, index, self._failed)

    def _nowhere(self, slot: int) -> None:
        """A load balancer without a target answers every request itself."""
        self.tally.refused[UNAVAILABLE] += 1
        self._again(slot, Ended(refused_status=UNAVAILABLE))

    def _failed(self, device: DeviceConnection, error: OSError | None) -> None:
        self._tell_once(f"connect failed: {type(error).__name__}", error=str(error))
        self.on_refused(device, 0, None)

    def on_refused(self, device: DeviceConnection, status: int, retry_after_s: float | None) -> None:
        self.tally.refused[status] += 1
        if status:
            self._tell_once(f"refused with {status}", device=self.options.name(device.slot))
        self.devices[device.slot] = None
        self._connector.left(self._target[device.slot])
        self._again(device.slot, Ended(refused_status=status, retry_after_s=retry_after_s))

    def client_model_of(self, device: DeviceConnection) -> ClientModel:
        return self._client_models[self._client_model_of[device.slot]]

    def on_text(self, device: DeviceConnection, payload: bytes) -> None:
        try:
            message = _decode(payload)
        except msgspec.DecodeError:
            return  # a type that is not for devices
        now_s, slot = self._clock(), device.slot
        if isinstance(message, Ack):
            self.sender.acked(slot, message, now_s)
            self.guide.settled(slot)
        elif isinstance(message, Nack):
            self._tell_once(f"nack: {message.code}", device=self.options.name(slot), message=message.message)
            self.sender.nacked(slot, message, now_s)
            self.guide.settled(slot)
        elif isinstance(message, Welcome):
            if device.state == OPENING:
                self._welcomed(device, message, now_s)
        elif isinstance(message, Goaway):
            self._asked_to_leave(device, message)
        else:
            self._tell_once(f"error: {message.code}", device=self.options.name(slot), message=message.message)

    def on_opened(self, device: DeviceConnection) -> None:
        slot, now_s = device.slot, self._clock()
        self.tally.connects += 1
        self.tally.bins.connected(now_s + self._wall_s)
        self.tally.connect.record(max(0.0, now_s - self._since_s[slot]))
        if self._lost_s[slot]:
            self.tally.gap.record(now_s - self._lost_s[slot])
        self._since_s[slot] = now_s
        self._enter(slot, UP)

    def _welcomed(self, device: DeviceConnection, welcome: Welcome, now_s: float) -> None:
        slot = device.slot
        device.state = OPEN
        self._heartbeat_s = welcome.heartbeat_s
        self._life_s[slot] = 0.0
        if self.closing:
            self.dismiss(device)
            return
        self.sender.welcomed(slot, welcome)
        self._plan(slot, now_s)
        if self._faults[slot] & SLOW and device.transport is not None:
            device.stop_reading()
        self.guide.settled(slot)

    def _asked_to_leave(self, device: DeviceConnection, goaway: Goaway) -> None:
        self.tally.goaways += 1
        device.goaway_ms = max(0, goaway.reconnect_after_ms)
        if self.client_model_of(device).obeys_goaway:
            self.dismiss(device)

    def on_ended(self, device: DeviceConnection) -> None:
        slot, now_s = device.slot, self._clock()
        self.tally.closed[device.code] += 1
        if not device.ours and device.goaway_ms < 0:
            self.tally.unexpected += 1
        self.devices[slot] = None
        self._connector.left(self._target[slot])
        self.mute[slot] = 0
        if device.abnormal:
            self.tally.abnormal[self._client_model_of[slot]] += 1
        self.sender.disconnected(slot)
        uptime_s = now_s - self._since_s[slot]
        self._lost_s[slot] = now_s
        self.tally.bins.lost(now_s + self._wall_s)
        goaway_ms = None if device.goaway_ms < 0 else device.goaway_ms
        self._again(slot, Ended(device.clean, device.code, 0, None, goaway_ms, uptime_s))

    def _again(self, slot: int, ended: Ended) -> None:
        """Ask the client model when the device reconnects. The model counts simulated seconds, a goaway real ones."""
        self._life_s[slot] = 0.0
        if self.closing:
            self._enter(slot, DONE)
            return
        if self.guide.over(slot):
            return
        client_model = self._client_models[self._client_model_of[slot]]
        speed = self.options.speed
        wait_s, self._retries[slot] = client_model.next_attempt(
            self._retries[slot], self.options.trait(slot), ended.faster(speed), self.random
        )
        if wait_s is None:
            self._enter(slot, GIVEN_UP)
        elif wait_s <= 0:
            self._enter(slot, WAITING)
            self._enlist(slot, self._clock())
        else:
            self._enter(slot, WAITING)
            self._at(slot, self._clock() + wait_s / speed)

    # Misbehaviour

    def _fall_silent(self, slot: int, device: DeviceConnection, kind: int, for_s: float) -> None:
        if device.transport is not None and not self.mute[slot]:
            self.mute[slot] = kind
            device.transport.pause_reading()
            self._at(slot, self.now_s + for_s)

    def _wake_up(self, slot: int, device: DeviceConnection) -> None:
        """The silence is over: the device makes a new connection; one that was stalled has noticed nothing."""
        if self.mute[slot] == SILENT:
            self._faults[slot] &= ~HALF_OPEN
            device.break_off()
        elif device.transport is not None:
            self.mute[slot] = 0
            self.heard_s[slot] = self.now_s
            device.transport.resume_reading()
            self._plan(slot, self.now_s)
            self.sender.flush(slot)

    def _half_open_s(self, slot: int) -> float:
        return self._since_s[slot] + self.options.half_open_after_s(slot)

    def _churns(self, slot: int) -> bool:
        return bool(self.options.churn_period_s) and not self.finishing

    def _churn_s(self, slot: int) -> float:
        return self._since_s[slot] + self.options.churn_after_s(slot)

    def _tell_once(self, what: str, **fields: object) -> None:
        """The first of each kind; the counts are in the samples."""
        if what not in self._told and len(self._told) < 100:
            self._told.add(what)
            self._tell("first", what=what, **fields)
