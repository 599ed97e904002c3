"""What happens in a run: recorded, written to the journal, and, where a person should see it, shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from loadtest.fleet.sample import Sample
from loadtest.results.recorder import Recorder
from loadtest.results.records import Happened, RunRecord, Told
from loadtest.run.folder import Journal
from loadtest.run.options import View

SHOWN = ("action", "wave", "note")


class RunLog:
    """`expected_s` is about how long each phase takes, in their order. Nothing is recorded before `open`."""

    def __init__(self, view: View, expected_s: Mapping[str, float]) -> None:
        self.view = view
        self.recorder = Recorder()
        self._expected_s = expected_s
        self._journal: Journal | None = None

    def open(self, journal: Journal) -> None:
        """Write to this journal from now on."""
        self._journal = journal

    def record(self, line: RunRecord) -> None:
        """Record a line."""
        assert self._journal is not None
        self.recorder.add(line)
        self._journal.write(line)

    def flush(self) -> None:
        """Write the journal to disk."""
        assert self._journal is not None
        self._journal.flush()

    def happen(self, what: Any, text: str, *, name: str = "", **fields: Any) -> None:
        """Record an event of the kind `what` (see `Happened`)."""
        self.record(Happened(now_ms(), what, text, name, fields))
        if what in SHOWN:
            self.view.note(text)

    def note(self, text: str) -> None:
        """Record a note."""
        self.happen("note", text)

    def phase(self, name: str) -> None:
        """A phase begins."""
        self.happen("phase", name, name=name)
        names = list(self._expected_s)
        later = names[names.index(name) + 1 :] if name in names else ()
        self.view.phase(name, self._expected_s.get(name, 0.0), sum(self._expected_s[other] for other in later))

    def sampled(self, sample: Sample) -> None:
        """A fleet process wrote a sample."""
        self.record(Told(sample))

    def told(self, name: str, event: Mapping[str, Any]) -> None:
        """The fleet process `name` wrote an event."""
        fields = {key: value for key, value in event.items() if key != "event"}
        self.record(Happened(now_ms(), "note", str(event.get("event", "")), name, fields))


def now_ms() -> int:
    """The wall clock, ms since the Unix epoch."""
    return time.time_ns() // 1_000_000
