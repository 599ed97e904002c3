"""What a fleet process writes to standard output: a `Sample` a second, and lines `{"event": …}` between them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence

from loadtest.fleet import sample
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.sample import Sample

MAX_LOST_NAMED = 100

MAX_KINDS_TOLD = 100

Write = Callable[[bytes], None]
Tell = Callable[..., None]


def write_line(line: bytes) -> None:
    """Write all of a line to standard output, without a buffer that would need a flush."""
    while line:
        line = line[os.write(1, line) :]


class FleetOutput:
    """`write` gets whole lines."""

    def __init__(self, options: FleetOptions, write: Write) -> None:
        self._options = options
        self._write = write
        self._lost_named = 0

    def tell(self, event: str, **fields: object) -> None:
        """Write an event."""
        line = {"event": event, "process": self._options.process, "time_ms": time.time_ns() // 1_000_000, **fields}
        self._write(json.dumps(line).encode() + b"\n")

    def lost(self, slot: int, ids: Sequence[str], why: str) -> None:
        """Name the lost events of a device, up to MAX_LOST_NAMED over the whole run; the samples count all of them."""
        named = ids[: MAX_LOST_NAMED - self._lost_named]
        if named:
            self._lost_named += len(named)
            self.tell("lost", account=self._options.account, device=self._options.name(slot), ids=named, why=why)

    def sample(self, taken: Sample) -> None:
        """Write the sample of a second."""
        self._write(sample.encode(taken) + b"\n")


class FirstEvents:
    """Tells the first event of each kind, of up to MAX_KINDS_TOLD kinds; the samples count all of them."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told: set[str] = set()

    def tell(self, what: str, **fields: object) -> None:
        """Tell it if it is the first of the kind `what`."""
        if what not in self._told and len(self._told) < MAX_KINDS_TOLD:
            self._told.add(what)
            self._tell("first", what=what, **fields)
