"""The load of the overload benchmark: connected devices send at a fixed rate; latency counts from the intended time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections import deque

import msgspec
import uvloop

from loadtest.bench.client import Load, LoadDevice, masked_frame
from loadtest.bench.ingest_client import EventAnswer

_decode = msgspec.json.Decoder(EventAnswer).decode
_TURN_S = 0.02


class PacedLoad(Load):
    """Open loop: late answers do not slow the sending down (no coordinated omission)."""

    def __init__(self, options: dict[str, object]) -> None:
        super().__init__(options)
        self._intended_s: dict[str, float] = {}
        self._number = 0
        self._acks: deque[tuple[float, float]] = deque()
        self.nacked = 0
        self._settled = asyncio.Event()

    async def send(self, seconds: float, rate_per_s: float) -> dict[str, object]:
        """Send single `location` messages, round robin, for some seconds; then wait for the remaining acks."""
        names = list(self.devices)
        began_s = time.perf_counter()
        sent = 0
        while (elapsed_s := time.perf_counter() - began_s) < seconds:
            while sent < elapsed_s * rate_per_s:
                self._send(names[sent % len(names)], began_s + sent / rate_per_s)
                sent += 1
            await asyncio.sleep(_TURN_S)
        if self._intended_s:
            self._settled.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), 30)
        return {"sent": sent, "missing": len(self._intended_s), "nacked": self.nacked, "unexpected": self.unexpected}

    async def latencies(self, since_s: float, until_s: float) -> dict[str, object]:
        """Latencies of events that were due between two moments (time.perf_counter of any process here)."""
        took = sorted(done - intended for intended, done in self._acks if since_s <= intended < until_s)
        if not took:
            return {"acks": 0}
        return {
            "acks": len(took),
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[len(took) * 99 // 100] * 1000,
            "max_ms": took[-1] * 1000,
        }

    def _send(self, name: str, intended_s: float) -> None:
        device = self.devices.get(name)
        if device is None:
            return
        self._number += 1
        key = f"{name}.{self._number}"
        self._intended_s[key] = intended_s
        payload = f'{{"type":"location","id":"{key}","time":{int(time.time() * 1000)},"lat":35.6,"lon":139.7}}'
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
        if not self._intended_s:
            self._settled.set()


async def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load = PacedLoad(json.loads(sys.stdin.readline()))
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def answer(command: dict[str, object]) -> None:
        name = str(command.pop("do"))
        print(json.dumps(await getattr(load, name)(**command)), flush=True)

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    uvloop.run(main())
