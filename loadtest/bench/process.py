"""Processes under measurement: servers that say `ready PORT`, a load that takes commands; CPU and memory of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ServerProcess:
    """A subprocess that listens. Its CPU is its own clock (user and system), its memory its RSS."""

    def __init__(self, command: list[str], ready: str = "ready ") -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = self._wait(ready)

    def _wait(self, ready: str) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if ready in line:
                return int(line.split(ready)[1].split("/")[0].strip())
        raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def private_bytes(self) -> int:
        """What only this process holds, by smaps_rollup: RSS without the pages of files that others map as well."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES

    def stop(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class LoadProcess:
    """A load in its own process (client.py). Its options, with a secret, are the first line that it is told."""

    def __init__(self, module: str = "loadtest.bench.client", **options: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._write(options)

    def tell(self, do: str, **arguments: object) -> None:
        self._write({"do": do, **arguments})

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended with {self._process.wait()}")
        result: dict[str, Any] = json.loads(line)
        return result

    def do(self, do: str, **arguments: object) -> dict[str, Any]:
        self.tell(do, **arguments)
        return self.answer()

    def _write(self, message: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
