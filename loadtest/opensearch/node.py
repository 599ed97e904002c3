"""One node: started, waited for, stopped, killed, frozen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from loadtest.opensearch.install import HERE, jars, java
from loadtest.processes.ports import free_port

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
_SLICE_S = 0.04
# The disk monitor would remove a flood-stage block by itself, and refuse shards on a full disk of a small machine.
_SETTINGS = {"cluster.routing.allocation.disk.threshold_enabled": "false", "discovery.type": "single-node"}


class Node:
    """A node in `folder`; its data is there after a stop. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self, folder: Path, port: int = 0, heap: str = "512m", settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` are those of opensearch.yml."""
        self.folder = folder
        self.port = port or free_port()
        self._heap = heap
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process. Raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the node does not run")
        return self._process.pid

    def set(self, name: str, value: str) -> None:
        """A setting from the next start on."""
        self._settings[name] = value

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with the end of its log; MissingError."""
        program, library = java(), jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(program), f"-Xms{self._heap}", f"-Xmx{self._heap}", "--enable-native-access=ALL-UNNAMED"]
        # Compiled quickly rather than well: it runs for minutes.
        command += ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{library}/*", str(HERE / "Launcher.java")]
        command += [str(self.folder.absolute()), str(self.port)]
        command += [f"{name}={value}" for name, value in {**_SETTINGS, **self._settings}.items()]
        self._ready.clear()
        process = self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, args=(process,), name="opensearch-log", daemon=True)
        self._reader.start()
        if not self._ready.wait(START_TIMEOUT_S) or process.poll() is not None:
            self.kill()
            raise RuntimeError(f"the node did not start: {self.log.read_text(errors='replace')[-2000:]}")

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self.folder / "node.log"

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Keep what it prints until it ends; a pipe that nobody reads would stop it."""
        if process.stdout is None:
            return
        with self.log.open("ab") as log, process.stdout:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if b"READY " in line:
                    self._ready.set()
        self._ready.set()

    def stop(self) -> None:
        """SIGTERM, and what is left after a while is killed. Harmless when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: as a machine that is lost."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and never answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def slow_down(self, share: float) -> None:
        """Let it run for this share of the time only, until it ends: a node that is small, on a machine that is not."""
        process = self._process
        threading.Thread(target=self._slowly, args=(process, share), name="opensearch-slow", daemon=True).start()

    def _slowly(self, process: subprocess.Popen[bytes], share: float) -> None:
        while process is self._process and process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(_SLICE_S * (1 - share))
                os.kill(process.pid, signal.SIGCONT)
            time.sleep(_SLICE_S * share)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for sent in (number, signal.SIGCONT):
            if process.poll() is None:
                os.kill(process.pid, sent)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(STOP_TIMEOUT_S)

    def forget(self) -> None:
        """Stop it and remove all it stored."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
