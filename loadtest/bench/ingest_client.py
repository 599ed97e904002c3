"""The load of the ingest benchmark: devices that send stored events, each waiting for its acks before the next lot."""

from __future__ import annotations

import asyncio
import random
import time

import msgspec

from loadtest.bench.client import Load, LoadDevice, masked_frame, obey


class EventAnswer(msgspec.Struct):
    type: str
    ids: list[str] = []


_decode = msgspec.json.Decoder(EventAnswer).decode


class IngestLoad(Load):
    """Closed loop: a device has one message in flight. Acknowledged events are counted, latency is per message."""

    def __init__(self, options: dict[str, object]) -> None:
        super().__init__(options)
        self.acked = 0
        self.nacked = 0
        self._events = 20
        self._sent = 0
        self._end_s = 0.0
        self._since: dict[str, float] = {}
        self._owed: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._latencies_s: list[float] = []
        self._chance = random.Random(1)
        self._places: dict[str, tuple[float, float]] = {}

    async def ingest(self, seconds: float, events: int = 20) -> dict[str, object]:
        """Send for some seconds; returns acknowledged events a second and the latency of an ack."""
        self._events = events
        self.acked = self.nacked = self._sent = 0
        self._latencies_s.clear()
        began = time.perf_counter()
        self._end_s = began + seconds
        self._done = asyncio.get_running_loop().create_future()
        for device in list(self.devices.values()):
            self._send(device)
        await asyncio.wait_for(self._done, seconds + 60)
        took_s = time.perf_counter() - began
        latencies = sorted(self._latencies_s)
        return {
            "sent": self._sent,
            "acked": self.acked,
            "nacked": self.nacked,
            "events_per_s": self.acked / took_s,
            "ack_p50_ms": latencies[len(latencies) // 2] * 1000,
            "ack_p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
        }

    def _send(self, device: LoadDevice) -> None:
        name = device.name
        number = self._numbers.get(name, 0)
        self._numbers[name] = number + self._events
        lat, lon = self._places.get(name) or (self._chance.uniform(-60, 70), self._chance.uniform(-180, 180))
        self._places[name] = (lat + self._chance.uniform(-1e-4, 1e-4), lon + self._chance.uniform(-1e-4, 1e-4))
        now_ms = int(time.time() * 1000)
        events = ",".join(
            f'{{"id":"{name}-{number + index}","time":{now_ms + index},"lat":{lat + index * 1e-5:.6f},'
            f'"lon":{lon + index * 1e-5 if lon < 179 else 179:.6f},"accuracy":5,"speed":1.4}}'
            for index in range(self._events)
        )
        if self._events > 1:
            payload = f'{{"type":"locations","events":[{events}]}}'
        else:
            payload = f'{{"type":"location",{events[1:]}'
        self._since[name] = time.perf_counter()
        self._owed[name] = self._events
        self._sent += self._events
        device.transport.write(masked_frame(payload.encode()))

    def on_text(self, device: LoadDevice, payload: bytes) -> None:
        answer = _decode(payload)
        count = len(answer.ids)
        if answer.type == "ack":
            self.acked += count
        elif answer.type == "nack":
            self.nacked += count
        else:
            return
        owed = self._owed[device.name] = self._owed[device.name] - count
        if owed:
            return
        now_s = time.perf_counter()
        self._latencies_s.append(now_s - self._since[device.name])
        if now_s < self._end_s:
            self._send(device)
        elif self.acked + self.nacked == self._sent and self._done is not None and not self._done.done():
            self._done.set_result(None)


if __name__ == "__main__":
    obey(IngestLoad)
