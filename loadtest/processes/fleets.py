"""One fleet process as the conductor sees it: options in, commands as JSON lines, samples and events out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest.fleet import sample
from loadtest.fleet.sample import Sample
from loadtest.processes import children
from loadtest.processes.plan import FleetSlice

COMMAND = (sys.executable, "-m", "loadtest.fleet.process")
# It waits up to 20 s for acks by itself.
STOP_TIMEOUT_S = 60.0

OnSample = Callable[[Sample], None]
OnEvent = Callable[[str, dict[str, Any]], None]


class FleetProcess:
    """`died` is set when it ended before it was told to; `last` is what it said last."""

    def __init__(self, part: FleetSlice, log: Path) -> None:
        self.part = part
        self.log = log
        self.last: Sample | None = None
        self.ended = asyncio.Event()
        self.stopping = False
        self.code: int | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def died(self) -> bool:
        return self.ended.is_set() and (not self.stopping or self.code != 0)

    def why(self) -> str:
        """Why it ended."""
        return f"exit code {self.code}: {children.last_lines(self.log) or 'it said nothing'}"

    def held(self) -> str:
        """What it held when it was last heard."""
        last = self.last
        if last is None:
            return "it held nothing yet"
        return f"it held {last.connected} connections, {last.in_flight} events in flight and {last.stored} waiting"

    async def start(
        self, options: dict[str, Any], on_sample: OnSample, on_event: OnEvent, command: Sequence[str] = COMMAND
    ) -> None:
        """Start it; `on_sample` and `on_event` are called with what it says."""
        self._process = await children.start(command, self.log, stdin=True)
        self._reader = asyncio.create_task(self._read(on_sample, on_event), name=self.part.name)
        await self._write(options)

    async def tell(self, do: str, **arguments: object) -> None:
        """A command; harmless when the process was told to stop, or has ended."""
        await self._write({"do": do, **arguments})

    async def _write(self, message: dict[str, Any]) -> None:
        # What is written after the end of its input is a warning each on a person's terminal.
        if self._process.stdin is None or self._process.stdin.is_closing():
            return
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            return

    async def stop(self) -> None:
        """Have it stop, and read its last sample; killed when it has not ended within STOP_TIMEOUT_S."""
        self.stopping = True
        # The end of its input is a stop as the command is, and lets the thread end that waits for commands.
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._end(STOP_TIMEOUT_S)

    async def kill(self) -> None:
        """End it at once."""
        self.stopping = True
        await self._end(0)

    async def _end(self, within_s: float) -> None:
        await children.end(self._process, within_s)
        if self._reader is not None:
            await self._reader

    async def _read(self, on_sample: OnSample, on_event: OnEvent) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                text = await self._process.stdout.readline()
                if not text:
                    break
                if text.startswith(b'{"event"'):
                    on_event(self.part.name, json.loads(text))
                elif text.strip():
                    self.last = sample.decode(text)
                    on_sample(self.last)
            except (ValueError, msgspec.MsgspecError) as error:
                on_event(self.part.name, {"event": "unreadable", "error": str(error)})
        self.code = await self._process.wait()
        self.ended.set()
