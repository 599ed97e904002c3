"""The broker of a run's gateways: a Redis or Valkey that is found on this machine, without a disk."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

from gateway.errors import HeiwaError
from loadtest.processes import children
from loadtest.processes.ports import free_port

PROGRAMS = ("valkey-server", "redis-server")
READY_S = 10.0
_END_S = 10.0


def find() -> str:
    """The server's program. Raises HeiwaError that says what to install."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name)) is not None), None)
    if found is None:
        raise HeiwaError("this scenario needs a broker: install redis-server or valkey-server")
    return found


class BrokerProcess:
    """Killed, frozen and started again at the same address; started again it is empty."""

    def __init__(self, out: Path) -> None:
        self._port = free_port()
        self._log = out / "broker.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The setting `broker.url`."""
        return f"redis://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Of the process that runs; 0: none does."""
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it, or let it go on where it was frozen. Raises HeiwaError."""
        if self._process is not None:
            children.send_signal(self._process, signal.SIGCONT)
            return
        where = ("--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._log.parent))
        self._process = await children.start([find(), *where, "--save", "", "--appendonly", "no"], self._log)
        try:
            async with asyncio.timeout(READY_S):
                while not await self._answers():
                    if self._process.returncode is not None:
                        raise HeiwaError(f"the broker did not start: {children.last_lines(self._log)}")
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise HeiwaError(f"the broker was not ready within {READY_S:g} s; see {self._log}") from None

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        """End it at once, with all that it held."""
        if self._process is not None:
            process, self._process = self._process, None
            children.send_signal(process, signal.SIGKILL)
            await children.end(process, _END_S)

    def freeze(self) -> None:
        """It answers nothing, and its connections stay open."""
        if self._process is not None:
            children.send_signal(self._process, signal.SIGSTOP)
