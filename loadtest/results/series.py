"""One second of a run, and what each process and the kernel of the machine used over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from itertools import pairwise
from typing import Any

from msgspec import Struct

from loadtest.fleet.sample import FleetCounts
from loadtest.results.records import KernelReading, ProcessReading


class Second(FleetCounts, frozen=True, kw_only=True):
    """The counts of the whole fleet at the end of a second; latencies are of this second, None: nothing measured."""

    time_s: int
    ack_p50_ms: float | None = None
    ack_p99_ms: float | None = None
    ack_max_ms: float | None = None
    connect_p99_ms: float | None = None
    gap_p99_ms: float | None = None
    late_ms: int = 0


class Usage(Struct, frozen=True):
    """One process over a run. `base_rss_bytes` is its RSS before the first connection."""

    name: str
    role: str
    pid: int
    died: bool
    cpu_s: float
    base_rss_bytes: int
    max_rss_bytes: int
    last_rss_bytes: int
    pss_bytes: int
    private_bytes: int
    max_files: int


class MachineReadings:
    """Readings of processes and of the kernel, by second.

    `several`: they come from more than one machine, so that kernel readings cannot be told apart.
    """

    def __init__(self) -> None:
        self.processes: dict[str, dict[int, ProcessReading]] = defaultdict(dict)
        self.kernel: dict[int, KernelReading] = {}
        self.several = False

    def add(self, reading: ProcessReading | KernelReading) -> None:
        second = reading.time_ms // 1000
        if isinstance(reading, KernelReading):
            self.kernel[second] = reading
        else:
            self.processes[reading.name][second] = reading

    def usage(self, died: Collection[str]) -> list[Usage]:
        return [_usage(name, list(readings.values()), name in died) for name, readings in self.processes.items()]

    def growth(self, role: str, second: int) -> tuple[float, float] | None:
        """The mean first RSS of a role, and the growth of its RSS until a second, in bytes; None without a reading."""
        bases, growth = [], 0.0
        for readings in self.processes.values():
            first = next(iter(readings.values()))
            if first.role != role:
                continue
            at = _at(readings, second)
            if at is not None:
                bases.append(first.rss_bytes)
                growth += at.rss_bytes - first.rss_bytes
        return (sum(bases) / len(bases), growth) if bases else None

    def cpu_s(self, role: str, begin: int, end: int) -> float:
        """The CPU time of a role between two seconds."""
        total = 0.0
        for readings in self.processes.values():
            last, first = _at(readings, end), _at(readings, begin)
            if last is not None and last.role == role:
                total += last.cpu_s - (first.cpu_s if first else 0)
        return total

    def kernel_growth(self, second: int) -> float | None:
        """The growth of slab and TCP buffers until a second, in bytes; None without a reading."""
        at = _at(self.kernel, second)
        if at is None:
            return None
        first = next(iter(self.kernel.values()))
        return float(at.slab_bytes + at.tcp_bytes - first.slab_bytes - first.tcp_bytes)

    def stolen_s(self) -> dict[int, float]:
        """Processor time per second that the hypervisor gave to other machines, by the second of the reading.

        Empty when it was not measured, or with several machines.
        """
        if self.several:
            return {}
        return {
            second: (now.stolen_s - before.stolen_s) / (second - earlier)
            for (earlier, before), (second, now) in pairwise(self.kernel.items())
        }


def _at(readings: dict[int, Any], second: int) -> Any:
    """The last reading that is not after a second; None without one."""
    return next((readings[moment] for moment in reversed(readings) if moment <= second), None)


def _usage(name: str, readings: list[ProcessReading], died: bool) -> Usage:
    first, last = readings[0], readings[-1]
    return Usage(
        name=name,
        role=first.role,
        pid=first.pid,
        died=died,
        cpu_s=last.cpu_s,
        base_rss_bytes=first.rss_bytes,
        max_rss_bytes=max(reading.rss_bytes for reading in readings),
        last_rss_bytes=last.rss_bytes,
        pss_bytes=max(reading.pss_bytes for reading in readings),
        private_bytes=max(reading.private_bytes for reading in readings),
        max_files=max(reading.files for reading in readings),
    )
