"""The load of a benchmark: many websockets in one process, lean enough not to be the bottleneck.

Commands come as lines of JSON on standard input, each answered by one line. Masks are zero, which RFC 6455 allows, so
that no byte of a payload has to be touched here.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import cast

import uvloop

from gateway.identity.token import mint

_SOURCES = 8  # source addresses 127.0.0.2 …, each with its own 28,000 ephemeral ports


def masked_frame(payload: bytes, first: int = 0x81) -> bytes:
    """A client's frame with a mask of zeros."""
    length = len(payload)
    if length < 126:
        return bytes((first, 0x80 | length)) + b"\0\0\0\0" + payload
    return bytes((first, 0xFE)) + length.to_bytes(2, "big") + b"\0\0\0\0" + payload


class LoadDevice(asyncio.Protocol):
    """One websocket that answers pings and counts messages."""

    __slots__ = ("_buffer", "_load", "_opened", "name", "transport")

    def __init__(self, load: Load, name: str) -> None:
        self._load = load
        self._buffer = b""
        self._opened: asyncio.Future[bool] | None = None
        self.name = name

    def open(self) -> asyncio.Future[bool]:
        self._opened = asyncio.get_running_loop().create_future()
        self.transport.write(self._load.request(self.name))
        return self._opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if self._opened is not None:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            opened, self._opened = self._opened, None
            good = data.startswith(b"HTTP/1.1 101")
            opened.set_result(good)
            if not good:
                self._load.on_refusal(data[: end + 4])
                return
            data = data[end + 4 :]
        if data:
            self._frames(data)

    def _frames(self, data: bytes) -> None:
        position, size = 0, len(data)
        while size - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            if length == 126:
                if size < position + 4:
                    break
                length = int.from_bytes(data[position + 2 : position + 4], "big")
                start = position + 4
            if size < start + length:
                break
            position = start + length
            if first == 0x81:
                self._load.on_text(self, data[start:position])
            elif first == 0x89:
                self.transport.write(masked_frame(data[start:position], 0x8A))
            elif first == 0x88:
                self._load.closed += 1
        if position < size:
            self._buffer = data[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)
        if self._opened is not None and not self._opened.done():
            self._load.silent += 1
            self._opened.set_result(False)


class Load:
    """All devices of this process."""

    def __init__(self, options: dict[str, object]) -> None:
        self.port = int(str(options["port"]))
        self.path = str(options.get("path", "/ws"))
        self.subprotocol = options.get("subprotocol")
        secret = options.get("secret")
        self.secret = str(secret).encode() if secret else None
        self.prefix = str(options.get("prefix", "device"))
        self.scope = str(options.get("scope", "location:write command:receive"))
        self.devices: dict[str, LoadDevice] = {}
        self.refused = 0
        self.silent = 0
        self.statuses: Counter[str] = Counter()
        self._gone = asyncio.Event()
        self.closed = 0
        self.received = 0
        self.unexpected = 0
        self._closing = False
        self._made = 0
        self._wanted = 0
        self._done: asyncio.Future[None] | None = None

    def request(self, name: str) -> bytes:
        lines = [
            f"GET {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ]
        if self.subprotocol:
            lines.append(f"Sec-WebSocket-Protocol: {self.subprotocol}")
        if self.secret:
            claims = {
                "sub": name,
                "account": "bench",
                "scope": self.scope,
                "exp": int(time.time()) + 86_400,
            }
            lines.append(f"Authorization: Bearer {mint(claims, self.secret)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def connect(self, count: int, rate_per_s: float = 0, at_once: int = 1000) -> dict[str, object]:
        """Open `count` more, up to `rate_per_s` a second (0: as fast as possible), with `at_once` under way."""
        began = time.perf_counter()
        gate = asyncio.Semaphore(at_once)
        waiting: set[asyncio.Task[None]] = set()
        for index in range(count):
            if rate_per_s:
                ahead = index / rate_per_s - (time.perf_counter() - began)
                if ahead > 0:
                    await asyncio.sleep(ahead)
            await gate.acquire()
            task = asyncio.create_task(self._connect_one())
            waiting.add(task)
            task.add_done_callback(lambda _: gate.release())
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
        return {
            "open": len(self.devices),
            "refused": self.refused,
            "silent": self.silent,
            "statuses": dict(self.statuses),
            "seconds": time.perf_counter() - began,
        }

    async def _connect_one(self) -> None:
        self._made += 1
        name = f"{self.prefix}-{self._made}"
        source = f"127.0.0.{2 + self._made % _SOURCES}"
        loop = asyncio.get_running_loop()
        device = LoadDevice(self, name)
        try:
            await loop.create_connection(lambda: device, "127.0.0.1", self.port, local_addr=(source, 0))
        except OSError:
            self.refused += 1
            return
        if await device.open():
            self.devices[name] = device
        else:
            device.transport.close()

    def on_text(self, device: LoadDevice, payload: bytes) -> None:
        self.received += 1
        if self._done is not None and self.received >= self._wanted and not self._done.done():
            self._done.set_result(None)

    def on_refusal(self, head: bytes) -> None:
        self.refused += 1
        status = head[9:12].decode()
        told = b"\r\nretry-after:" in head.lower()
        self.statuses[f"{status} with Retry-After" if told else status] += 1

    def lost(self, device: LoadDevice) -> None:
        if self.devices.pop(device.name, None) is not None and not self._closing:
            self.unexpected += 1
        if not self.devices:
            self._gone.set()

    async def echo(self, messages: int, payload_bytes: int = 100, at_once: int = 100) -> dict[str, object]:
        """`at_once` devices send a message each, and the next ones send when all were answered."""
        frame = masked_frame(b"x" * payload_bytes)
        began, start = time.perf_counter(), self.received
        self._wanted = start
        devices = self._round_robin()
        for _ in range(messages // at_once):
            self._done = asyncio.get_running_loop().create_future()
            self._wanted += at_once
            for _ in range(at_once):
                next(devices).transport.write(frame)
            await asyncio.wait_for(self._done, 60)
        self._done = None
        return {"messages": self.received - start, "seconds": time.perf_counter() - began}

    async def broadcast(self, rounds: int, events: int) -> dict[str, object]:
        """One device has the server send `events` messages to all, and the next round begins when all are here."""
        frame = masked_frame(f"publish {events}".encode())
        began = time.perf_counter()
        for _ in range(rounds):
            self._done = asyncio.get_running_loop().create_future()
            self._wanted = self.received + events * len(self.devices)
            next(iter(self.devices.values())).transport.write(frame)
            await asyncio.wait_for(self._done, 60)
        self._done = None
        return {"deliveries": rounds * events * len(self.devices), "seconds": time.perf_counter() - began}

    def _round_robin(self) -> Iterator[LoadDevice]:
        while True:
            yield from list(self.devices.values())

    async def churn(self, count: int) -> dict[str, object]:
        """Open and close `count` websockets, a thousand at a time."""
        for _ in range(count // 1000):
            await self.connect(1000)
            await self.close()
        return {"done": count, "refused": self.refused}

    async def close(self) -> dict[str, object]:
        """End all with a close frame."""
        self._closing = True
        frame = masked_frame(b"\x03\xe8", 0x88)
        for device in self.devices.values():
            device.transport.write(frame)
        if self.devices:
            self._gone.clear()
            await self._gone.wait()
        self._closing = False
        return {"open": 0}

    async def idle(self, seconds: float) -> dict[str, object]:
        await asyncio.sleep(seconds)
        return {"open": len(self.devices), "unexpected": self.unexpected}


async def _obey(kind: type[Load]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(50_000, 50, 100)
    load = kind(json.loads(sys.stdin.readline()))
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def answer(command: dict[str, object]) -> None:
        name = str(command.pop("do"))
        print(json.dumps(await getattr(load, name)(**command)), flush=True)

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


def obey(kind: type[Load]) -> None:
    """Be a load of this kind: its options are the first line on standard input, each other one is a command."""
    uvloop.run(_obey(kind))


if __name__ == "__main__":
    obey(Load)
