"""The load of `loadtest.bench.push`: a websocket a run, subscribed to its own; every event is counted and timed."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from array import array

import msgspec
import uvloop

from loadtest.bench.client import Load, LoadDevice, masked_frame

SUBSCRIBED_S = 90.0


class Message(msgspec.Struct):
    """What is looked at of a message."""

    type: str
    channel: str = ""
    offset: int = 0
    time: int = 0


_decode = msgspec.json.Decoder(Message).decode


class Watchers(Load):
    """`late_ms` are the delays of events since the last `watch` began."""

    def __init__(self, options: dict[str, object]) -> None:
        super().__init__(options)
        self.offsets: dict[str, int] = {}
        self.subscribed = 0
        self._all = 0
        self._have_all = asyncio.Event()
        self.out_of_order = 0
        self.errors = 0
        self.late_ms = array("d")

    def on_text(self, device: LoadDevice, payload: bytes) -> None:
        now_ms = time.time() * 1000
        message = _decode(payload)
        if message.type == "event":
            if message.offset != self.offsets.get(message.channel, 0) + 1:
                self.out_of_order += 1
            self.offsets[message.channel] = message.offset
            self.late_ms.append(now_ms - message.time)
        elif message.type == "subscribed":
            self.subscribed += 1
            if self.subscribed == self._all:
                self._have_all.set()
        elif message.type == "error":
            self.errors += 1

    async def subscribe(self, runs: list[str]) -> dict[str, object]:
        """Each connection to a run of its own, from the beginning."""
        for device, run in zip(self.devices.values(), runs, strict=True):
            text = json.dumps({"type": "subscribe", "channel": f"workflow:{run}", "after": 0})
            device.transport.write(masked_frame(text.encode()))
        self._all = len(runs)
        async with asyncio.timeout(SUBSCRIBED_S):
            await self._have_all.wait()
        return {"subscribed": self.subscribed, "errors": self.errors}

    async def watch(self, seconds: float) -> dict[str, object]:
        """Events of so long; their delays in ms, sorted into percentiles."""
        self.late_ms = array("d")
        await asyncio.sleep(seconds)
        found = sorted(self.late_ms)
        self.late_ms = array("d")
        places = {f"p{part:g}_ms": found[int(len(found) * part / 100)] for part in (50, 90, 99, 99.9)} if found else {}
        return {"events": len(found), "out_of_order": self.out_of_order, "unexpected": self.unexpected, **places}

    async def seen(self) -> dict[str, object]:
        """The last offset of each channel."""
        return {"offsets": self.offsets}


async def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(50_000, 50, 100)
    loop = asyncio.get_running_loop()
    load = Watchers(json.loads(await loop.run_in_executor(None, sys.stdin.readline)))
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        name = command.pop("do")
        print(json.dumps(await getattr(load, name)(**command)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
