"""A real HAProxy in front of the gateways of a deploy: started, commanded over its runtime socket, stopped.

HAProxy 2.6 management guide, section 9.3 (`add server`, `set server … state`, `shutdown sessions server`). Servers are
added while it runs, so that it need not know the tasks beforehand. Unlike an
Application Load Balancer it is one node without health checks, and only a command ends the connections to a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from gateway.errors import HeiwaError, SettingsError
from loadtest.processes import children, machine

# Each connection is two files of one process, and 20,000 are a common limit: 9,800 were open at once here.
MAX_CONNECTIONS = 9_000
FILES_A_CONNECTION = 2
# Listeners, poller, runtime socket.
FILE_RESERVE = 200
# More than the fleet: connections that still close when their devices have reconnected.
MAXCONN = 9_900
START_S = 10.0
COMMAND_S = 5.0
STOP_S = 5.0
BACKEND = "gateways"
SOCKET = "haproxy.sock"
# Debian installs it in a folder that only root has on its PATH.
_ELSEWHERE = "/usr/local/sbin:/usr/sbin"

ServerState = Literal["ready", "drain", "maint"]
Balance = Literal["roundrobin", "leastconn"]

# `timeout tunnel` cuts idle websockets, with 1006: here it is longer than any of them lives.
# One thread: with several, each would have a round robin of its own.
_CONFIG = """\
global
    maxconn {maximum}
    nbthread 1
    stats socket fd@{control} level admin
    stats timeout 1m
defaults
    mode http
    timeout connect 5s
    timeout http-request 10s
    timeout client 60s
    timeout server 60s
    timeout tunnel 48h
    timeout client-fin 30s
    timeout server-fin 30s
frontend devices
    bind fd@{listener}
    option forwardfor
    default_backend {backend}
backend {backend}
    balance {balance}
    source 127.0.0.1
"""


class HaproxyError(HeiwaError):
    """HAProxy did not start, has ended, or did not do what it was told."""


def find() -> str | None:
    """The path of the program; None: it is not installed."""
    return shutil.which("haproxy") or shutil.which("haproxy", path=_ELSEWHERE)


def check(devices: int, file_limit: int) -> None:
    """Check that it takes `devices` devices with `file_limit` files a process. Raises SettingsError saying why not."""
    if find() is None:
        raise SettingsError(
            "deploy.balancer", "haproxy is not installed: apt-get install haproxy (Debian), or use fleet"
        )
    limit = min(MAX_CONNECTIONS, _maximum(file_limit))
    if devices > limit:
        raise SettingsError(
            "deploy.balancer",
            f"{devices} devices do not fit behind one HAProxy: each connection is two files of one process, so that it "
            f"holds {limit} here; use --devices {limit} or deploy.balancer = fleet",
        )


class Haproxy:
    """Use once: `start`, …, `stop`. `port` is where devices connect, on 127.0.0.1.

    Its files are in `folder`: `haproxy.cfg`, `haproxy.log`, and the runtime socket `haproxy.sock`, for its owner only.
    """

    def __init__(self, folder: Path, balance: Balance = "roundrobin") -> None:
        self.port = 0
        self.log = folder / "haproxy.log"
        self._folder = folder
        self._balance = balance
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The id of the process; 0 before `start`."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start it; return when it answers. Raises HaproxyError with its output."""
        program = find()
        if program is None:
            raise HaproxyError("haproxy is not installed: apt-get install haproxy (Debian)")
        # It inherits both listeners, bound here: no other process can take the port, and the first command waits.
        with _listener() as listener, self._control() as control:
            self.port = listener.getsockname()[1]
            config = self._folder / "haproxy.cfg"
            config.write_text(
                _CONFIG.format(
                    maximum=_maximum(machine.file_limit()),
                    control=control.fileno(),
                    listener=listener.fileno(),
                    backend=BACKEND,
                    balance=self._balance,
                )
            )
            files = (listener.fileno(), control.fileno())
            self._process = await children.start([program, "-db", "-f", str(config)], self.log, files=files)
        try:
            await self._command("show info", START_S)
        except HaproxyError as error:
            await self.stop()
            raise HaproxyError(self._why("show info")) from error

    async def stop(self) -> None:
        """End it, and the connections through it."""
        if self._process is not None:
            children.send_signal(self._process, signal.SIGTERM)
            await children.end(self._process, STOP_S)
            (self._folder / SOCKET).unlink(missing_ok=True)

    async def add(self, server: str, host: str, port: int) -> None:
        """Add a server, which gets no connections yet. Raises HaproxyError."""
        said = await self._command(f"add server {BACKEND}/{server} {host}:{port}")
        if "New server registered" not in said:
            raise HaproxyError(f"HAProxy does not take the server {server}: {said}")

    async def set_state(self, server: str, state: ServerState) -> None:
        """ready: new connections; drain, maint: no new ones, and open ones live on. Raises HaproxyError."""
        await self._do(f"set server {BACKEND}/{server} state {state}")

    async def shutdown_sessions(self, server: str) -> None:
        """End the connections to a server: clients see the end of the stream, which is 1006. Raises HaproxyError."""
        await self._do(f"shutdown sessions server {BACKEND}/{server}")

    async def statistics(self) -> dict[str, dict[str, str]]:
        """`show stat` of each server, by its name: `scur` open connections, `stot` all so far, `status`."""
        text = await self._command("show stat")
        lines = csv.DictReader(text.removeprefix("# ").splitlines())
        return {line["svname"]: line for line in lines if line["pxname"] == BACKEND and line["svname"] != "BACKEND"}

    async def _do(self, command: str) -> None:
        """Send a command that answers nothing when it succeeds."""
        said = await self._command(command)
        if said:
            raise HaproxyError(f"HAProxy refused {command!r}: {said}")

    async def _command(self, command: str, within_s: float = COMMAND_S) -> str:
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await self._connect()
                try:
                    writer.write(f"{command}\n".encode())
                    said = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise HaproxyError(self._why(command)) from error
        # Each answer ends with an empty line, unless the end of the process cut it off.
        if not said.endswith(b"\n"):
            raise HaproxyError(self._why(command))
        return said.decode().strip()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with _short(self._folder) as folder:
            return await asyncio.open_unix_connection(f"{folder}/{SOCKET}")

    @contextlib.contextmanager
    def _control(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as control, _short(self._folder) as folder:
            before = os.umask(0o177)
            try:
                control.bind(f"{folder}/{SOCKET}")
            finally:
                os.umask(before)
            control.listen()
            yield control

    def _why(self, command: str) -> str:
        lines = children.last_lines(self.log) or "it said nothing"
        if self._process is not None and self._process.returncode is None:
            return f"HAProxy did not answer {command!r}: {lines}"
        code = "" if self._process is None else f" with exit code {self._process.returncode}"
        return f"HAProxy ended{code}: {lines}"


def _maximum(file_limit: int) -> int:
    return min(MAXCONN, (file_limit - FILE_RESERVE) // FILES_A_CONNECTION)


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(socket.SOMAXCONN)
    return listener


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short name of a folder: the path of a unix socket may have 107 bytes (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
