"""The charts of a report: named lines over the seconds since the fleet began to connect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from loadtest.results.records import Happened
from loadtest.results.series import MachineReadings, Second
from loadtest.results.waves import Simulated

# More points cannot be seen; longer runs are drawn in steps of several seconds.
MAX_POINTS = 1200

Points = list[float | None]


class ChartLine(Struct, frozen=True):
    """One line of a chart. Lines of one `group` have one colour, and one entry in the legend."""

    name: str
    values: Points
    group: str = ""


class Chart(Struct, frozen=True):
    """`unit` is `bytes`, `ms`, `cores`, `/s` or empty (a number); `note` explains how to read the chart.

    `times` are its own; empty: those of all other charts.
    """

    key: str
    title: str
    unit: str
    lines: list[ChartLine]
    note: str = ""
    stepped: bool = False
    times: list[float] = []


class Mark(Struct, frozen=True):
    """An event at `at_s`, drawn as a vertical line. `kind`: phase, action, wave or died."""

    at_s: float
    text: str
    kind: str


def times(seconds: Sequence[Second], zero_s: float) -> list[float]:
    """The seconds since `zero_s` at which `charts` draws."""
    return [second.time_s - zero_s for second in _stepped(seconds)]


def marks(events: Iterable[Happened], zero_s: float) -> list[Mark]:
    """Phases, actions, steps of a deploy and deaths."""
    return [
        Mark(event.time_ms / 1000 - zero_s, event.name if event.what == "phase" else event.text, event.what)
        for event in events
        if event.what in ("action", "wave", "died") or event.name in ("connect", "measure", "settle", "stop")
    ]


def charts(seconds: Sequence[Second], machine: MachineReadings) -> list[Chart]:
    """All charts, each line as long as `times`."""
    drawn = _stepped(seconds)
    found = [*_fleet(drawn), *_latencies(seconds, drawn), *_machine(drawn, machine)]
    return [chart for chart in found if any(value is not None for line in chart.lines for value in line.values)]


def deploy(found: Simulated, zero_s: float) -> Chart:
    """New connections in each simulated second, drawn at the real moment when it ended."""
    size = _step(len(found.connects))
    starts = range(0, len(found.connects), size)

    def highest(counts: Sequence[int]) -> Points:
        return [float(max(counts[start : start + size])) for start in starts]

    return Chart(
        "deploy",
        "New connections a simulated second",
        "/s",
        [ChartLine("connects", highest(found.connects)), ChartLine("lost", highest(found.lost))],
        f"{found.speed:g} simulated seconds pass in a real one. Each point is the highest second of its step.",
        times=[found.at_s(start) - zero_s for start in starts],
    )


def _fleet(drawn: Sequence[Second]) -> list[Chart]:
    connections = [
        ChartLine("connected", [second.connected for second in drawn]),
        ChartLine("connecting", [second.connecting for second in drawn]),
    ]
    connects = [ChartLine("connects", _rate(drawn, lambda second: second.connects))]
    events = [
        ChartLine("sent", _rate(drawn, lambda second: second.sent)),
        ChartLine("acked", _rate(drawn, lambda second: second.acked)),
        ChartLine("nacked", _rate(drawn, lambda second: second.nacked)),
    ]
    unanswered = [
        ChartLine("in flight", [second.in_flight for second in drawn]),
        ChartLine("waiting on devices", [second.waiting for second in drawn]),
    ]
    return [
        Chart("connections", "Connections", "", connections),
        Chart("connects", "Connects a second", "/s", connects),
        Chart("closes", "Closes and refusals a second", "/s", _ends(drawn), "By close code; 1006: no close frame."),
        Chart("events", "Events a second", "/s", events),
        Chart("open", "Events without an answer", "", unanswered),
    ]


def _ends(drawn: Sequence[Second]) -> list[ChartLine]:
    """Closes by code, and refusals by status."""
    codes = sorted({code for second in drawn for code in second.closed})
    statuses = sorted({status for second in drawn for status in second.refused})
    lines = [ChartLine(code, _per_second(drawn, [second.closed.get(code, 0) for second in drawn])) for code in codes]
    for status in statuses:
        counts = [second.refused.get(status, 0) for second in drawn]
        lines.append(ChartLine(f"refused {status}", _per_second(drawn, counts)))
    return lines


def _latencies(seconds: Sequence[Second], drawn: Sequence[Second]) -> list[Chart]:
    def worst(name: str) -> Points:
        """The maximum of each step: a peak must not vanish because a run was long."""
        size = _step(len(seconds))
        found: Points = []
        for start in range(0, len(seconds), size):
            values = [getattr(second, name) for second in seconds[start : start + size]]
            found.append(max((value for value in values if value is not None), default=None))
        return found

    assert len(worst("ack_p50_ms")) == len(drawn)
    return [
        Chart(
            "ack",
            "From the intended time of an event to its ack",
            "ms",
            [
                ChartLine("p50", worst("ack_p50_ms")),
                ChartLine("p99", worst("ack_p99_ms")),
                ChartLine("slowest", worst("ack_max_ms")),
            ],
            "The acks of each second. Latency counts from when an event was due, even if it waited on the device.",
        ),
        Chart(
            "gaps",
            "Connecting",
            "ms",
            [ChartLine("connect p99", worst("connect_p99_ms")), ChartLine("gap p99", worst("gap_p99_ms"))],
            "Connect: from its intended moment to the end of the handshake. Gap: from a lost connection to the next.",
        ),
    ]


def _machine(drawn: Sequence[Second], machine: MachineReadings) -> list[Chart]:
    cpu: list[ChartLine] = []
    memory: list[ChartLine] = []
    totals: dict[str, list[Points]] = {}
    for name, readings in sorted(machine.processes.items()):
        role = next(iter(readings.values())).role
        found = _carried(drawn, readings)
        used = [None if reading is None else reading.cpu_s for reading in found]
        cpu.append(ChartLine(name, _per_second(drawn, used), role))
        memory.append(ChartLine(name, [None if reading is None else reading.rss_bytes for reading in found], role))
        totals.setdefault(role, []).append(memory[-1].values)
    kernel = _carried(drawn, machine.kernel)
    cpu.append(ChartLine("stolen by other machines", _carried(drawn, machine.stolen_s())))
    sums = [ChartLine(f"{role}s" if len(of) > 1 else role, _sum(of)) for role, of in totals.items()]
    sums.append(ChartLine("Linux: slab and TCP", [None if k is None else k.slab_bytes + k.tcp_bytes for k in kernel]))
    return [
        Chart("cpu", "CPU of each process", "cores", cpu),
        Chart(
            "memory",
            "Memory in all",
            "bytes",
            sums,
            "RSS of the processes; the memory of Linux is that of the whole machine.",
        ),
        Chart("rss", "Memory of each process", "bytes", memory),
    ]


def _stepped(seconds: Sequence[Second]) -> list[Second]:
    """The last of each step."""
    size = _step(len(seconds))
    return [seconds[min(start + size, len(seconds)) - 1] for start in range(0, len(seconds), size)]


def _step(count: int) -> int:
    return max(1, -(-count // MAX_POINTS))


def _rate(drawn: Sequence[Second], count: Callable[[Second], int]) -> Points:
    return _per_second(drawn, [count(second) for second in drawn])


def _per_second(drawn: Sequence[Second], counts: Sequence[float | None]) -> Points:
    """The growth of a counter per second; None for the first point."""
    found: Points = [None]
    for index in range(1, len(counts)):
        now, before = counts[index], counts[index - 1]
        span = drawn[index].time_s - drawn[index - 1].time_s
        found.append(None if now is None or before is None else max(0.0, (now - before) / span))
    return found[: len(counts)]


def _carried(drawn: Sequence[Second], readings: dict[int, Any]) -> list[Any]:
    """The last reading before each drawn second; None before the first reading and after the last one."""
    moments = sorted(readings)
    found: list[Any] = []
    at = -1
    for second in drawn:
        while at + 1 < len(moments) and moments[at + 1] <= second.time_s:
            at += 1
        ended = at == len(moments) - 1 and second.time_s - moments[at] > 2 if at >= 0 else True
        found.append(None if ended else readings[moments[at]])
    return found


def _sum(values: list[Points]) -> Points:
    found: Points = []
    for column in zip(*values, strict=True):
        known = [value for value in column if value is not None]
        found.append(sum(known) if known else None)
    return found
