"""Records of runs that never were, for what is made of them."""

from __future__ import annotations

from typing import Any

from hdrh.histogram import HdrHistogram

from loadtest.fleet.histogram import DIGITS, HIGHEST_US, LOWEST_US
from loadtest.fleet.sample import Sample
from loadtest.results.recorder import Recorder
from loadtest.results.records import Begin, Happened, Judged, KernelReading, ProcessReading, RunRecord, Told

# An even second, so that sums are easy to follow.
ZERO_S = 1_800_000_000


def encoded(*values_ms: float) -> str:
    """A histogram as a fleet tells it."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for value in values_ms:
        histogram.record_value(int(value * 1000))
    text: str = histogram.encode().decode()
    return text


def begin(share: str = "1/1", devices: int = 10, **scenario: Any) -> Begin:
    return Begin(
        time_ms=ZERO_S * 1000,
        scenario="steady",
        share=share,
        devices=devices,
        seed=7,
        options={"scenario": {"description": "As ever.", **scenario}, "gateways": 1, "fleets": 1},
        machine={"processors": 2, "processor": "<b>fast</b>", "memory_bytes": 25_000_000_000, "kernel": "6.1"},
        versions={"python": "3.11"},
    )


def told(at_s: int, process: str = "fleet-1.1", **fields: Any) -> Told:
    """The sample of the second that begins at `at_s`."""
    return Told(Sample(process=process, time_ms=(ZERO_S + at_s + 1) * 1000, **fields))


def phase(at_s: float, name: str, text: str = "") -> Happened:
    return Happened(int((ZERO_S + at_s) * 1000), "phase", text or name, name)


def happened(at_s: float, what: Any, text: str, name: str = "") -> Happened:
    return Happened(int((ZERO_S + at_s) * 1000), what, text, name)


def process(at_s: int, name: str, role: Any, cpu_s: float, rss_bytes: int) -> ProcessReading:
    return ProcessReading((ZERO_S + at_s) * 1000, name, role, 17, cpu_s, rss_bytes)


def kernel(at_s: int, slab_bytes: int, stolen_s: float = 0.0) -> KernelReading:
    return KernelReading((ZERO_S + at_s) * 1000, slab_bytes, 0, 5, stolen_s)


def judged(**fields: Any) -> Judged:
    return Judged(**{"time_ms": ZERO_S * 1000, "acked": 0, "stored": 0, "lost": 0, "doubled": 0, "copies": 0, **fields})


def recorder(*lines: RunRecord) -> Recorder:
    made = Recorder()
    for line in lines:
        made.add(line)
    return made


def a_run(seconds: int = 20, devices: int = 10, **scenario: Any) -> list[RunRecord]:
    """All connect in the first second, each sends one event a second, which takes 5 ms."""
    lines: list[RunRecord] = [
        begin(devices=devices, **scenario),
        kernel(0, 1_000_000),
        process(0, "gateway-1.1", "gateway", 1.0, 50_000_000),
        process(0, "fleet-1.1", "fleet", 0.5, 30_000_000),
        phase(0, "connect"),
    ]
    for at_s in range(1, seconds):
        sent = devices * max(0, at_s - 2)
        if at_s == 2:
            lines.append(phase(at_s, "measure"))
        lines += [
            process(at_s, "gateway-1.1", "gateway", 1.0 + at_s / 10, 50_000_000 + 2000 * devices),
            process(at_s, "fleet-1.1", "fleet", 0.5 + at_s / 20, 30_000_000 + 1000 * devices),
            kernel(at_s, 1_000_000 + 8000 * devices),
            told(at_s, devices=devices, connected=devices, connects=devices, sent=sent, acked=sent, ack=encoded(5, 5)),
        ]
    lines += [phase(seconds, "settle"), phase(seconds, "stop"), judged(acked=sent, stored=sent), phase(seconds, "end")]
    return lines
