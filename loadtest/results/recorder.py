"""Merges the samples of many fleet processes, on one or several machines, into one run.

Counts of a sample are since its process started; a process without a sample in a second keeps its last counts.
Histograms of a second are added up. Everything is a pure function of the records, so that a report can be made again
from `samples.jsonl`, even after a crash.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from loadtest.fleet.histogram import Latencies
from loadtest.fleet.sample import ClientModelCounts, FleetCounts, Sample
from loadtest.results.records import (
    Begin,
    Commanded,
    Happened,
    Judged,
    KernelReading,
    ProcessReading,
    RunRecord,
    Told,
    Waved,
)
from loadtest.results.series import MachineReadings, Second, Usage
from loadtest.results.waves import merged
from loadtest.scenario.metrics import Values

# A second is closed when a second this much later has begun: processes do not write their samples at once.
LATE_S = 5
LATENCIES = ("ack", "connect", "gap")
# The fields of a sample that make up each latency; a second has those of LATENCIES.
FIELDS = {
    "ack": ("ack", "faulty_ack"),
    "healthy_ack": ("ack",),
    "connect": ("connect",),
    "gap": ("gap",),
    "command": ("command",),
    "watch": ("watch",),
}
# The devices of a process that told nothing for this long do not count as connected any more.
SILENT_S = 15
BY_CODE = ("closed", "refused")
COUNTERS = frozenset(FleetCounts.__struct_fields__) - frozenset(BY_CODE)


class _OpenSecond:
    """A second for which more samples may come."""

    __slots__ = ("latencies",)

    def __init__(self) -> None:
        self.latencies = {name: Latencies() for name in LATENCIES}


class Recorder:
    """Takes records in the order of time; gives seconds, totals and figures at any moment."""

    def __init__(self) -> None:
        self.begins: list[Begin] = []
        self.events: list[Happened] = []
        self.judged: list[Judged] = []
        self.commands: list[Commanded] = []
        self.waves: list[Waved] = []
        self.bins: dict[int, list[int]] = {}
        self._settled: list[Mapping[str, ClientModelCounts]] = []
        self.machine = MachineReadings()
        self.latencies = {name: Latencies() for name in FIELDS}
        self.last: dict[str, Sample] = {}
        self._died: set[str] = set()
        self._open: dict[int, _OpenSecond] = {}
        self._seconds: dict[int, Second] = {}
        self._closed_until = 0
        self._told: dict[str, dict[int, Sample]] = defaultdict(dict)

    def add(self, line: RunRecord) -> None:
        """Take one record."""
        match line:
            case Told(sample):
                self._tell(sample)
            case ProcessReading() | KernelReading():
                self.machine.add(line)
            case Happened():
                self.events.append(line)
                if line.what == "phase" and line.name == "settle":
                    self._settled = [sample.client_models for sample in self.last.values()]
                if line.what == "died":
                    self._died.add(line.name)
            case Begin():
                self.begins.append(line)
                self.machine.several = len(self.begins) > 1
            case Judged():
                self.judged.append(line)
            case Commanded():
                self.commands.append(line)
            case Waved():
                self.waves.append(line)

    def seconds(self) -> list[Second]:
        """All seconds until now, without gaps."""
        self._close(until=max(self._open, default=-1) + 1)
        return [self._seconds[second] for second in sorted(self._seconds)]

    def now(self) -> Second | None:
        """The last closed second, for a live view."""
        return self._seconds.get(self._closed_until - 1)

    def phase(self, name: str) -> int | None:
        """When a phase began, s since the Unix epoch; with several machines, on the last of them."""
        moments = [event.time_ms for event in self.events if event.what == "phase" and event.name == name]
        return max(moments) // 1000 if moments else None

    def totals(self) -> Mapping[str, int]:
        """The counters at this moment, over all processes. One that died keeps its counts, but no connections."""
        total: Counter[str] = Counter()
        for process, sample in self.last.items():
            names = COUNTERS - {"connected", "connecting"} if process in self._died else COUNTERS
            total.update({name: getattr(sample, name) for name in (*names, "resent")})
        return total

    def by_code(self, field: str) -> dict[str, int]:
        """`closed` by close code or `refused` by status."""
        total: Counter[str] = Counter()
        for sample in self.last.values():
            total.update(getattr(sample, field))
        return dict(sorted(total.items()))

    def client_models(self) -> dict[str, ClientModelCounts]:
        """The devices of each client model when the measured time ended, or now if it has not ended."""
        return merged(self._settled or [sample.client_models for sample in self.last.values()])

    def usage(self) -> list[Usage]:
        """The memory (first, maximum, last) and CPU of each process."""
        return self.machine.usage(self._died)

    def _tell(self, sample: Sample) -> None:
        second = (sample.time_ms - 1) // 1000
        for name, fields in FIELDS.items():
            for field in fields:
                self.latencies[name].add(getattr(sample, field))
        for number, connects, lost in sample.bins:
            counts = self.bins.setdefault(number, [0, 0])
            counts[0] += connects
            counts[1] += lost
        self.last[sample.process] = sample
        if second < self._closed_until:
            return  # its counts will be in a later second, its histograms are in the totals only
        if second not in self._open:
            self._open[second] = _OpenSecond()
            self._close(until=second - LATE_S)
        for name in LATENCIES:
            for field in FIELDS[name]:
                self._open[second].latencies[name].add(getattr(sample, field))
        self._told[sample.process][second] = sample

    def _close(self, until: int) -> None:
        """Make the seconds before `until` final."""
        if not self._closed_until:
            self._closed_until = min(self._open, default=until)
        for second in range(self._closed_until, until):
            self._seconds[second] = self._second(
                second, self._open.pop(second) if second in self._open else _OpenSecond()
            )
        self._closed_until = max(self._closed_until, until)

    def _second(self, second: int, open_second: _OpenSecond) -> Second:
        totals: Counter[Any] = Counter()
        codes: dict[str, Counter[str]] = {name: Counter() for name in BY_CODE}
        late_ms = 0
        for process, told in self._told.items():
            moment = _last_until(told, second)
            if moment is None:
                continue
            sample = told[moment]
            alive = process not in self._died and second - moment < SILENT_S
            names = COUNTERS if alive or moment == second else COUNTERS - {"connected", "connecting"}
            totals.update({name: getattr(sample, name) for name in names})
            for name, counts in codes.items():
                counts.update(getattr(sample, name))
            late_ms = max(late_ms, sample.late_ms if moment == second else 0)
        latencies = open_second.latencies
        ack = latencies["ack"].percentiles_ms(50, 99, 100)
        return Second(
            time_s=second,
            ack_p50_ms=ack[0],
            ack_p99_ms=ack[1],
            ack_max_ms=ack[2],
            connect_p99_ms=latencies["connect"].percentiles_ms(99)[0],
            gap_p99_ms=latencies["gap"].percentiles_ms(99)[0],
            late_ms=late_ms,
            closed=dict(codes["closed"]),
            refused=dict(codes["refused"]),
            **totals,
        )


def _last_until(told: dict[int, Sample], second: int) -> int | None:
    """The second of the last sample not after `second`; older samples are removed. None: there is no such sample."""
    known = [moment for moment in told if moment <= second]
    last = max(known, default=None)
    for moment in known:
        if moment != last:
            del told[moment]
    return last


def latency_figures(recorder: Recorder) -> Values:
    """The percentiles of the whole run."""
    values: Values = {}
    for name in FIELDS:
        percents = (50, 99, 99.9, 100) if name == "ack" else (50, 99, 100)
        found = recorder.latencies[name].percentiles_ms(*percents)
        for percent, value in zip(percents, found, strict=True):
            word = "max" if percent == 100 else f"p{percent:g}".replace(".", "")
            values[f"{name}_{word}_ms"] = value
    return values
