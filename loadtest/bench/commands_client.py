"""The load of the benchmark of commands: lamps that carry out at once, and apps that send at a fixed rate.

Latency counts from when a command was due, so that a late answer does not slow the sending down.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import msgspec

from loadtest.bench.client import Load, LoadDevice, masked_frame, obey

_TURN_S = 0.001
_SETTLE_S = 5.0


class _Message(msgspec.Struct):
    type: str
    id: str = ""
    ok: bool = False


_decode = msgspec.json.Decoder(_Message).decode


class CommandLoad(Load):
    """The first half of the connections are lamps, the others apps; with `lamps_elsewhere`, all are apps.

    `lamps_elsewhere`: how many there are, on another gateway, named as this class names its own.
    """

    def __init__(self, options: dict[str, object]) -> None:
        super().__init__({"scope": "command:send command:receive", **options})
        self._elsewhere = int(str(options.get("lamps_elsewhere", 0)))
        self._due_s: dict[str, float] = {}
        self._took_s: list[float] = []
        self._failed = 0
        self._number = 0
        self._settled = asyncio.Event()

    async def send(self, seconds: float, rate_per_s: float) -> dict[str, Any]:
        """Send commands for some seconds, round robin; then wait for the answers that are missing."""
        apps = list(self.devices)
        if self._elsewhere:
            lamps = [f"device-{number + 1}" for number in range(self._elsewhere)]
        else:
            lamps, apps = apps[: len(apps) // 2], apps[len(apps) // 2 :]
        self._took_s, self._failed = [], 0
        began_s, sent = time.perf_counter(), 0
        while (elapsed_s := time.perf_counter() - began_s) < seconds:
            while sent < elapsed_s * rate_per_s:
                self._command(apps[sent % len(apps)], lamps[sent % len(lamps)], began_s + sent / rate_per_s)
                sent += 1
            await asyncio.sleep(_TURN_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), _SETTLE_S)
        took = sorted(self._took_s)
        return {
            "sent": sent,
            "done": len(took),
            "failed": self._failed,
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[len(took) * 99 // 100] * 1000,
        }

    def _command(self, app: str, lamp: str, due_s: float) -> None:
        self._number += 1
        key = str(self._number)
        self._settled.clear()
        self._due_s[key] = due_s
        message = f'{{"type":"command","id":"{key}","device":"{lamp}","name":"switch","args":{{"on":true}}}}'
        self.devices[app].transport.write(masked_frame(message.encode()))

    def on_text(self, device: LoadDevice, payload: bytes) -> None:
        message = _decode(payload)
        if message.type == "command":
            answer = f'{{"type":"result","command":"{message.id}","ok":true,"value":{{"on":true}}}}'
            device.transport.write(masked_frame(answer.encode()))
        elif message.id:
            due_s = self._due_s.pop(message.id)
            if not self._due_s:
                self._settled.set()
            if message.ok:
                self._took_s.append(time.perf_counter() - due_s)
            else:
                self._failed += 1


if __name__ == "__main__":
    obey(CommandLoad)
