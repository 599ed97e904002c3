"""One fleet process as the conductor sees it: options and commands go in as JSON lines, samples and events come out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest.fleet import commands, sample
from loadtest.fleet.commands import FleetCommand
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.sample import Sample
from loadtest.processes import children
from loadtest.processes.slices import FleetSlice

COMMAND = (sys.executable, "-m", "loadtest.fleet.process")
# It waits up to 20 s for acks by itself.
STOP_TIMEOUT_S = 60.0

OnSample = Callable[[Sample], None]
OnEvent = Callable[[str, dict[str, Any]], None]


class FleetProcess:
    """`died`: it ended before it was told to. `last` is its last sample."""

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
        """Why the process ended."""
        return f"exit code {self.code}: {children.last_lines(self.log) or 'it said nothing'}"

    def held(self) -> str:
        """What the process held at its last sample."""
        last = self.last
        if last is None:
            return "it held nothing yet"
        return f"it held {last.connected} connections, {last.in_flight} events in flight and {last.waiting} waiting"

    async def start(
        self, options: FleetOptions, on_sample: OnSample, on_event: OnEvent, command: Sequence[str] = COMMAND
    ) -> None:
        """Start the process; `on_sample` and `on_event` are called with what it says."""
        self._process = await children.start(command, self.log, stdin=True)
        self._reader = asyncio.create_task(self._read(on_sample, on_event), name=self.part.name)
        await self._write(msgspec.json.encode(options))

    async def tell(self, command: FleetCommand) -> None:
        """Send a command; harmless when the process was told to stop, or has ended."""
        await self._write(commands.encode(command))

    async def _write(self, line: bytes) -> None:
        # Each write after the end of the input would be a warning on a person's terminal.
        if self._process.stdin is None or self._process.stdin.is_closing():
            return
        try:
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            return

    async def stop(self) -> None:
        """Stop the process and read its last sample; kill it when it has not ended within STOP_TIMEOUT_S."""
        self.stopping = True
        # The end of the input stops it as the command does, and also ends the thread that waits for commands.
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._end(STOP_TIMEOUT_S)

    async def kill(self) -> None:
        """End the process at once."""
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
