"""What a person sees of a run: a live table with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.drain.curve import curve
from loadtest.results.recorder import Recorder

PLAIN_EVERY_S = 5.0
# Seconds of new connections that are drawn.
CURVE_S = 40


class PlainView:
    """A line every five seconds, and the notes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._phase = ""
        self._due_s = 0.0

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def phase(self, name: str, within_s: float, later_s: float) -> None:
        self._phase = name
        self._due_s = time.monotonic() + PLAIN_EVERY_S
        self.note(f"{name} (about {duration(within_s)}; to the end {duration(within_s + later_s)})")

    def show(self, recorder: Recorder, devices: int) -> None:
        if time.monotonic() < self._due_s:
            return
        self._due_s += PLAIN_EVERY_S
        self.note(f"{self._phase:8} " + "  ".join(f"{name} {value}" for name, value in rows(recorder, devices)))


class LiveView:
    """A table that is redrawn, with a progress bar for the phase."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._phase = "start"
        self._began_s = time.monotonic()
        self._within_s = 1.0
        self._later_s = 0.0
        self._connects: deque[int] = deque(maxlen=CURVE_S)
        self._before = 0

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        self._console.print(Text(text))

    def phase(self, name: str, within_s: float, later_s: float) -> None:
        self._phase, self._began_s, self._within_s = name, time.monotonic(), max(within_s, 0.001)
        self._later_s = later_s
        self._live.update(self._head(), refresh=True)

    def show(self, recorder: Recorder, devices: int) -> None:
        table = Table.grid(padding=(0, 2))
        for name, value in rows(recorder, devices):
            table.add_row(Text(name, style="dim"), Text(value))
        connects = recorder.totals()["connects"]
        self._connects.append(max(0, connects - self._before))
        self._before = connects
        drawn = f"{curve(self._connects, CURVE_S):<{CURVE_S}} {self._connects[-1]:,}, maximum {max(self._connects):,}"
        table.add_row(Text("connects a second", style="dim"), Text(drawn))
        self._live.update(Group(self._head(), table), refresh=True)

    def _head(self) -> Table:
        past_s = time.monotonic() - self._began_s
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self._phase, style="bold"),
            ProgressBar(total=self._within_s, completed=min(past_s, self._within_s), width=30),
            Text(f"about {duration(max(0.0, self._within_s - past_s) + self._later_s)} left"),
        )
        return head


class QuietView(PlainView):
    """Notes only, on standard error: for `--json`."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def phase(self, name: str, within_s: float, later_s: float) -> None:
        return

    def show(self, recorder: Recorder, devices: int) -> None:
        return


def rows(recorder: Recorder, devices: int) -> list[tuple[str, str]]:
    """Names and values of the table."""
    totals = recorder.totals()
    closed = " ".join(f"{code}×{count}" for code, count in recorder.by_code("closed").items())
    refused = sum(recorder.by_code("refused").values())
    p50, p99 = recorder.latencies["ack"].percentiles_ms(50, 99)
    found = [
        ("connected", f"{totals['connected']:,} of {devices:,}"),
        ("sent", f"{totals['sent']:,}"),
        ("acked", f"{totals['acked']:,}"),
        ("open", f"{totals['in_flight'] + totals['waiting']:,}"),
        ("ack", "–" if p50 is None else f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"),
    ]
    found += [("refused", f"{refused:,}")] if refused else []
    found += [("closed", f"{closed} ({totals['unexpected']:,} unexpected)")] if closed else []
    return found


def duration(seconds: float) -> str:
    """`1 h 05 min`, `3 min 20 s`, `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"
