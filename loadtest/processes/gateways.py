"""The gateways under test: processes of `heiwa serve`, with folders and ports of their own and one secret."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import HeiwaError
from loadtest.processes import children

START_TIMEOUT_S = 30.0
# Beyond the drain's own bound.
STOP_TIMEOUT_S = 60.0
_STOPPED = (0,)
_KILLED = (0, -signal.SIGKILL)
# A load test connects the same devices often, and its logs should hold only what went wrong.
DEFAULTS: Mapping[str, object] = {
    "connections.flap_limit": 0,
    "log.level": "warning",
    "drain.stop_timeout_s": 15,
}


class GatewayError(HeiwaError):
    """A gateway did not start."""


class GatewayProcess:
    """One gateway. `url` is where devices connect, `operations` the address of its HTTP API."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder.parent / f"{name}.log"
        self.url = ""
        self.operations = ""
        # The exit codes that were asked for; empty: it is to go on.
        self._expected: tuple[int, ...] = ()
        self.ended = asyncio.Event()
        self._waiter: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def died(self) -> bool:
        return self.ended.is_set() and self._process.returncode not in self._expected

    def why(self) -> str:
        """Why the gateway ended."""
        return f"exit code {self._process.returncode}: {children.last_lines(self.log, 1) or 'it said nothing'}"

    async def start(
        self,
        secret_file: Path,
        settings: Mapping[str, object],
        public: str = "127.0.0.1:0",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; return when it is ready. `public` is where devices connect. Raises GatewayError with its output."""
        given = {
            **DEFAULTS,
            **settings,
            "data.folder": self.folder,
            "auth.secret_file": secret_file,
            "listen.public": public,
            "listen.operations": "127.0.0.1:0",
        }
        await self._spawn(given, environment)
        try:
            await asyncio.wait_for(self._announcement(), START_TIMEOUT_S)
        except TimeoutError:
            await self.kill()
            raise GatewayError(f"{self.name} was not ready within {START_TIMEOUT_S:g} s; see {self.log}") from None
        self._waiter = asyncio.create_task(self._wait(), name=self.name)

    @staticmethod
    def flags(given: Mapping[str, object]) -> list[str]:
        """Settings as options of `heiwa serve`."""
        texts = {key: str(value).lower() if isinstance(value, bool) else value for key, value in given.items()}
        return [word for key, text in texts.items() for word in ("--set", f"{key}={text}")]

    async def _spawn(self, given: Mapping[str, object], environment: Mapping[str, str] | None) -> None:
        """Start it; standard output is read by the caller. Raises GatewayError."""
        command = [sys.executable, "-m", "gateway", "serve", *self.flags(given)]
        self._process = await children.start(command, self.log, environment=environment)

    def terminate(self) -> None:
        """Send SIGTERM, and do not wait."""
        self._expected = _STOPPED
        self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal; harmless when the gateway has ended."""
        children.send_signal(self._process, number)

    async def stop(self) -> None:
        """Send SIGTERM, on which it stores what it accepted, and wait for its end."""
        await self._end(STOP_TIMEOUT_S)

    async def kill(self, *, expected: bool = True) -> None:
        """Send SIGKILL. Not `expected`: the gateway counts as one that died."""
        if expected:
            self._expected = _KILLED
        self.signal(signal.SIGKILL)
        await self._process.wait()
        if self._waiter is not None:
            await self._waiter

    async def _end(self, within_s: float) -> None:
        self.terminate()
        await children.end(self._process, within_s)
        if self._waiter is not None:
            await self._waiter

    async def _announcement(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            text = raw.decode()
            if found := re.search(r"devices\s+(wss?://\S+)", text):
                self.url = found[1]
            elif found := re.search(r"operations\s+(http://\S+)", text):
                self.operations = found[1]
            if "curl" in text:
                return
        await self._process.wait()
        raise GatewayError(f"{self.name} did not start: {children.last_lines(self.log)}")

    async def _wait(self) -> None:
        assert self._process.stdout is not None
        await self._process.stdout.read()
        await self._process.wait()
        self.ended.set()


def gateway_name(share: int, out: Path, number: int) -> tuple[str, Path]:
    """The name and the folder of gateway `number` of this machine's share."""
    return f"gateway-{share}.{number}", out / f"gateway-{number}"


def make_secret(path: Path) -> str:
    """Make a secret in a file that only its owner can read."""
    secret = secrets.token_urlsafe(48)
    path.touch(mode=0o600)
    path.write_text(f"{secret}\n")
    return secret
