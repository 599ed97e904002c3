"""A fleet as the conductor runs it: a subprocess that is told things, and what it told so far."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.identity.key_files import local_key
from loadtest.fleet import sample
from loadtest.fleet.sample import Sample
from tests.support.program import Program

DEVICES = 200
WITHIN_S = 40.0


class FleetProgram:
    """`python -m loadtest.fleet.process` with what it told so far."""

    def __init__(self, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.fleet.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        self.samples: list[Sample] = []
        self.events: list[dict[str, Any]] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def take(self, within_s: float = WITHIN_S) -> bool:
        """Read one line more; false at the end of the output."""
        line = self._lines.get(timeout=within_s)
        if line.startswith('{"event"'):
            self.events.append(json.loads(line))
        elif line:
            self.samples.append(sample.decode(line))
            check(self.samples[-1])
        return bool(line)

    def until(self, good: Callable[[Sample], bool], within_s: float = WITHIN_S) -> Sample:
        """The next sample of which that is true."""
        end_s = time.monotonic() + within_s
        seen = len(self.samples)
        while self.take():
            if len(self.samples) > seen:
                seen = len(self.samples)
                if good(self.samples[-1]):
                    return self.samples[-1]
            assert time.monotonic() < end_s, f"it did not happen; last: {self.samples[-1:]}, {self.events}"
        raise AssertionError(f"the fleet ended with {self.process.wait()}: {self.error()}")

    def tell(self, do: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def finish(self) -> Sample:
        """Stop it; the last sample."""
        self.tell("stop")
        return self.wait()

    def wait(self) -> Sample:
        while self.take():
            pass
        assert self.process.wait(10) == 0, self.error()
        return self.samples[-1]

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def check(told: Sample) -> None:
    """What must be true of every second."""
    assert told.sent == told.acked + told.nacked + told.in_flight + told.waiting + told.lost, told
    assert 0 <= told.connected + told.connecting + told.given_up <= told.devices


@contextmanager
def fleet(*programs: Program, **options: Any) -> Iterator[FleetProgram]:
    given = {
        "urls": [program.url for program in programs],
        "devices": DEVICES,
        "secret": local_key(programs[0].folder).decode() if programs else "x" * 32,
        "account": "default",
        "sources": 2,
        "connect": {"rate_per_s": 500},
        "events": {"period_s": 1},
        "finish_s": 12,
        "sample_period_s": 0.2,
        **options,
    }
    started = FleetProgram(**given)
    try:
        yield started
    finally:
        started.close()
