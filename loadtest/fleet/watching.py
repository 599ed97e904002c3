"""Devices that watch others: each watches the next one, sees every state or at least the last, and resumes after each
reconnect."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.protocol.messages import Event, Subscribed
from loadtest.fleet.device import DeviceConnection
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.tally import FleetTally

_encode = msgspec.json.Encoder().encode


class Watching:
    """`is_faulty` tells whose latencies say nothing: slow readers, half-open devices."""

    def __init__(
        self,
        options: FleetOptions,
        devices: Sequence[DeviceConnection | None],
        tally: FleetTally,
        is_faulty: Callable[[int], int],
        wall_s: float,
    ) -> None:
        self._options = options
        self._devices = devices
        self._tally = tally
        self._is_faulty = is_faulty
        self._wall_s = wall_s
        count = len(devices) if options.watchers else 0
        # By the watched device and by its watcher: the time of its newest location that was acknowledged, or seen.
        self._acked_ms = array("q", bytes(8 * count))
        self._seen_ms = array("q", bytes(8 * count))

    def welcomed(self, slot: int, device: DeviceConnection) -> None:
        """It is connected (again): a snapshot comes first."""
        if self._options.watches(slot):
            watched = self._options.name((slot + 1) % len(self._devices))
            device.send(_encode({"type": "subscribe", "channel": f"device:{watched}"}))

    def acked(self, slot: int, time_ms: int) -> None:
        """A location of this device is durable."""
        if self._acked_ms:
            self._acked_ms[slot] = max(self._acked_ms[slot], time_ms)

    def subscribed(self, slot: int, subscribed: Subscribed) -> None:
        """The snapshot came."""
        self._tally.commands["watch_snapshots"] += 1
        self._see(slot, subscribed.snapshot)

    def event(self, slot: int, event: Event, now_s: float) -> None:
        """A state came."""
        self._tally.commands["watch_events"] += 1
        before = self._seen_ms[slot] if self._seen_ms else 0
        self._see(slot, event.data)
        if self._seen_ms and self._seen_ms[slot] > before and not self._is_faulty(slot):
            self._tally.watch.record(max(0.0, now_s + self._wall_s - self._seen_ms[slot] / 1000))

    def stale(self) -> int:
        """Watchers that have not seen the newest location."""
        count = len(self._seen_ms)
        return sum(
            self._options.watches(slot) and self._seen_ms[slot] < self._acked_ms[(slot + 1) % count]
            for slot in range(count)
        )

    def _see(self, slot: int, state: Any) -> None:
        place = state.get("location") if isinstance(state, dict) else None
        if self._seen_ms and isinstance(place, dict):
            self._seen_ms[slot] = max(self._seen_ms[slot], place["time"])
