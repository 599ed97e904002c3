"""The program as a person runs it: a subprocess with a data folder, its addresses read from what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from gateway.adapters.aws import ecs_metadata
from gateway.identity.key_files import KEY_NAME, local_key
from gateway.identity.token import mint

EXIT_S = 40.0
# What ends by itself is no faster for it, and a busy machine is no fault.
WITHIN_S = 60.0


class Program:
    """`heiwa serve` on free ports. `settings` are `section.key=value`; `prefix` goes before the command, `options` at
    its end."""

    def __init__(
        self, folder: Path, *settings: str, prefix: tuple[str, ...] = (), options: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.key_folder = folder
        self.log = folder.parent / f"{folder.name}.log"
        command = [*prefix, sys.executable, "-m", "gateway", "serve"]
        if ecs_metadata.present(os.environ):
            # There it makes no key by itself.
            local_key(folder)
            settings = (f"auth.secret_file={folder / KEY_NAME}", *settings)
        given = [f"data.folder={folder}", "listen.public=127.0.0.1:0", "listen.operations=127.0.0.1:0", *settings]
        for setting in given:
            command += ["--set", setting]
        command += options
        self._log_file = self.log.open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log_file, text=True)
        self.ready = False

    def __enter__(self) -> Program:
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(EXIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log_file.close()

    def wait_ready(self) -> None:
        """Read the announcement; raises RuntimeError with the log when the program ends instead."""
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if "curl" in line or ("  data" in line and "  roles" in text):
                break
        else:
            raise RuntimeError(f"exit {self.process.wait(EXIT_S)}: {self.log.read_text()}")
        public = re.search(r"wss?://[\d.]+:(\d+)/ws", text)
        # A process without the role gateway has none.
        self.public_port = int(public[1]) if public else 0
        self.operations = re.search(r"operations  (http://\S+)", text)[1]  # type: ignore[index]
        self.ready = True

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.public_port}/ws"

    def token(self, sub: str, scope: str = "location:write", account: str = "default", ttl_s: float = 3600) -> str:
        """A token made with the program's own key, or with the one in `key_folder`."""
        claims = {"sub": sub, "account": account, "scope": scope, "exp": time.time() + ttl_s}
        return mint(claims, local_key(self.key_folder))

    @contextlib.contextmanager
    def connect(self, sub: str, **options: Any) -> Iterator[ClientConnection]:
        """A device's websocket, its welcome read."""
        token = options.pop("token", None) or self.token(sub, **options)
        with connect(
            self.url,
            subprotocols=["heiwa.v1.json"],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {token}"},
            proxy=None,
            compression=None,
            ping_interval=None,
        ) as connection:
            assert json.loads(connection.recv(10))["type"] == "welcome"
            yield connection

    def get(self, path: str, scope: str = "location:read device:read", account: str = "default") -> Any:
        """A JSON answer of the operations listener."""
        request = urllib.request.Request(self.operations + path)
        request.add_header("Authorization", f"Bearer {self.token('test', scope, account)}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def metrics(self) -> dict[str, float]:
        """Name with labels → value."""
        with urllib.request.urlopen(f"{self.operations}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def found(self, account: str = "default") -> Iterator[dict[str, Any]]:
        """Every event of an account, through all pages."""
        cursor = ""
        while True:
            query = f"/api/v1/locations/search?bbox=-180,-90,180,90&limit=1000{cursor}"
            page = self.get(query, account=account)
            yield from page["events"]
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"

    def terminate(self) -> int:
        """SIGTERM once; the exit code."""
        self.process.terminate()
        return self.process.wait(EXIT_S)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait(EXIT_S)

    def events(self) -> list[dict[str, Any]]:
        """The log's lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def location(name: str, **fields: Any) -> dict[str, Any]:
    """A `location` message, sent now from Tokyo unless told otherwise."""
    return {"type": "location", "id": name, "time": int(time.time() * 1000), "lat": 35.68, "lon": 139.76, **fields}


def send(connection: ClientConnection, message: dict[str, Any]) -> None:
    connection.send(json.dumps(message))


def receive(connection: ClientConnection, kind: str = "", within_s: float = 10) -> dict[str, Any]:
    """The next message, or the next of a kind."""
    end = time.monotonic() + within_s
    while True:
        message: dict[str, Any] = json.loads(connection.recv(max(0.0, end - time.monotonic())))
        if not kind or message["type"] == kind:
            return message


def eventually(check: Callable[[], bool], within_s: float = WITHIN_S, what: str = "it did not happen") -> None:
    """Wait for something that only another process can tell, by asking it; fails at the deadline."""
    end = time.monotonic() + within_s
    while not check():
        if time.monotonic() > end:
            raise AssertionError(what)
        with contextlib.suppress(InterruptedError):
            signal.sigtimedwait([], 0.02)


def refusal(connecting: contextlib.AbstractContextManager[Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and problem of a handshake that must be refused."""
    from websockets.exceptions import InvalidStatus

    try:
        with connecting:
            pass
    except InvalidStatus as error:
        response = error.response
        return response.status_code, dict(response.headers.raw_items()), json.loads(bytes(response.body or b"{}"))
    raise AssertionError("the handshake was not refused")


def http_problem(error: urllib.error.HTTPError) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(error.read())
    return problem
