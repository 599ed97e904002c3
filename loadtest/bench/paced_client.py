"""A load of connected devices that send at a fixed rate; latency counts from the intended time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque

import msgspec

from loadtest.bench.client import Load, LoadDevice, masked_frame, obey
from loadtest.bench.ingest_client import EventAnswer

_decode = msgspec.json.Decoder(EventAnswer).decode
_TURN_S = 0.005
# An ack may come so long after an earlier one's: they are in the order of arrival.
_FORGET_S = 60.0


class PacedLoad(Load):
    """Open loop: late answers do not slow the sending down (no coordinated omission)."""

    def __init__(self, options: dict[str, object]) -> None:
        super().__init__(options)
        self._intended_s: dict[str, float] = {}
        self._number = 0
        self._chance = random.Random(1)
        self._places: dict[str, tuple[float, float]] = {}
        self._acks: deque[tuple[float, float]] = deque()
        self.acked: Counter[str] = Counter()
        self.nacked = 0
        self._settled = asyncio.Event()

    async def send(
        self, seconds: float, rate_per_s: float, events: int = 1, settle_s: float = 30.0
    ) -> dict[str, object]:
        """Send messages of some events, round robin, for some seconds; then wait for the remaining acks."""
        names = list(self.devices)
        began_s = time.perf_counter()
        sent = 0
        while (elapsed_s := time.perf_counter() - began_s) < seconds:
            while sent < elapsed_s * rate_per_s / events:
                self._send(names[sent % len(names)], began_s + sent * events / rate_per_s, events)
                sent += 1
            await asyncio.sleep(_TURN_S)
        if self._intended_s:
            self._settled.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), settle_s)
        return {
            "sent": sent * events,
            "missing": len(self._intended_s),
            "nacked": self.nacked,
            "unexpected": self.unexpected,
        }

    async def counts(self) -> dict[str, object]:
        """Acknowledged events by device."""
        return dict(self.acked)

    async def latencies(self, since_s: float, until_s: float) -> dict[str, object]:
        """Latencies of events that were due between two moments (time.perf_counter of any process here).

        Earlier ones are forgotten.
        """
        while self._acks and self._acks[0][0] < since_s - _FORGET_S:
            self._acks.popleft()
        took = sorted(done - intended for intended, done in self._acks if since_s <= intended < until_s)
        if not took:
            return {"acks": 0}
        return {
            "acks": len(took),
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[len(took) * 99 // 100] * 1000,
            "max_ms": took[-1] * 1000,
        }

    def _send(self, name: str, intended_s: float, count: int) -> None:
        device = self.devices.get(name)
        if device is None:
            return
        now_ms = int(time.time() * 1000)
        lat, lon = self._places.get(name) or (self._chance.uniform(-60, 70), self._chance.uniform(-179, 179))
        self._places[name] = lat, lon = lat + self._chance.uniform(-1e-4, 1e-4), lon + self._chance.uniform(-1e-4, 1e-4)
        events = []
        for _ in range(count):
            self._number += 1
            key = f"{name}.{self._number}"
            self._intended_s[key] = intended_s
            events.append(f'{{"id":"{key}","time":{now_ms},"lat":{lat:.6f},"lon":{lon:.6f}}}')
        if count == 1:
            payload = '{"type":"location",' + events[0][1:]
        else:
            payload = f'{{"type":"locations","events":[{",".join(events)}]}}'
        device.transport.write(masked_frame(payload.encode()))

    def on_text(self, device: LoadDevice, payload: bytes) -> None:
        answer = _decode(payload)
        now_s = time.perf_counter()
        if answer.type == "nack":
            self.nacked += len(answer.ids)
        for key in answer.ids:
            intended_s = self._intended_s.pop(key)
            if answer.type == "ack":
                self._acks.append((intended_s, now_s))
                self.acked[device.name] += 1
        if not self._intended_s:
            self._settled.set()


if __name__ == "__main__":
    obey(PacedLoad)
