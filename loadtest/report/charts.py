"""The series that a report draws: named lines over the seconds since the fleet began to connect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from loadtest.results.records import Happened
from loadtest.results.series import MachineReadings, Second
from loadtest.results.waves import Simulated

# More points than this cannot be seen; longer runs are drawn in steps of several seconds.
MAX_POINTS = 1200

Points = list[float | None]


class ChartLine(Struct, frozen=True):
    """One line of a chart. `group`: lines of one group share a colour and are not named one by one."""

    name: str
    values: Points
    group: str = ""


class Chart(Struct, frozen=True):
    """`unit` is `bytes`, `ms`, `cores`, `/s` or empty (a number); `note` says what to know when reading it.

    `times` are its own when it is not drawn at the seconds of all others.
    """

    key: str
    title: str
    unit: str
    lines: list[ChartLine]
    note: str = ""
    stepped: bool = False
    times: list[float] = []


class Mark(Struct, frozen=True):
    """Something that happened at `at_s`, drawn as a vertical line. `kind`: phase, action, wave or died."""

    at_s: float
    text: str
    kind: str


def times(seconds: Sequence[Second], zero_s: float) -> list[float]:
    """Seconds since `zero_s` of what `charts` draws."""
    return [second.time_s - zero_s for second in _stepped(seconds)]


def marks(events: Iterable[Happened], zero_s: float) -> list[Mark]:
    """Phases, actions and deaths."""
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
    """New connections in each simulated second, at the real moment when it ended."""
    size = _step(len(found.connects))
    starts = range(0, len(found.connects), size)

    def highest(counts: Sequence[int]) -> Points:
        return [float(max(counts[start : start + size])) for start in starts]

    return Chart(
        "deploy",
        "New connections a simulated second",
        "/s",
        [ChartLine("connects", highest(found.connects)), ChartLine("lost", highest(found.lost))],
        f"{found.speed:g} simulated seconds pass in one. Of each step the highest.",
        times=[found.at_s(start) - zero_s for start in starts],
    )


def _fleet(drawn: Sequence[Second]) -> list[Chart]:
    codes = sorted({code for second in drawn for code in second.closed})
    statuses = sorted({status for second in drawn for status in second.refused})
    ends = [ChartLine(code, _per_second(drawn, [second.closed.get(code, 0) for second in drawn])) for code in codes]
    for status in statuses:
        counts = [second.refused.get(status, 0) for second in drawn]
        ends.append(ChartLine(f"refused {status}", _per_second(drawn, counts)))
    return [
        Chart(
            "connections",
            "Connections",
            "",
            [
                ChartLine("connected", [second.connected for second in drawn]),
                ChartLine("connecting", [second.connecting for second in drawn]),
            ],
        ),
        Chart("connects", "Connects a second", "/s", [ChartLine("connects", _rate(drawn, lambda s: s.connects))]),
        Chart("closes", "Closes and refusals a second", "/s", ends, "By close code; 1006: no close frame was seen."),
        Chart(
            "events",
            "Events a second",
            "/s",
            [
                ChartLine("sent", _rate(drawn, lambda s: s.sent)),
                ChartLine("acked", _rate(drawn, lambda s: s.acked)),
                ChartLine("nacked", _rate(drawn, lambda s: s.nacked)),
            ],
        ),
        Chart(
            "open",
            "Events without an answer",
            "",
            [
                ChartLine("in flight", [second.in_flight for second in drawn]),
                ChartLine("waiting on devices", [second.waiting for second in drawn]),
            ],
        ),
    ]


def _latencies(seconds: Sequence[Second], drawn: Sequence[Second]) -> list[Chart]:
    def worst(name: str) -> Points:
        """The greatest of each step: a peak must not vanish because a run was long."""
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
            "Of the acks of each second. An event that had to wait on the device counts from when it was due.",
        ),
        Chart(
            "gaps",
            "Connecting",
            "ms",
            [ChartLine("connect p99", worst("connect_p99_ms")), ChartLine("gap p99", worst("gap_p99_ms"))],
            "Connect: first packet to welcome. Gap: from a lost connection to the next one.",
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
    cpu.append(ChartLine("given to other machines", _carried(drawn, machine.stolen_s())))
    sums = [ChartLine(f"{role}s" if len(of) > 1 else role, _sum(of)) for role, of in totals.items()]
    sums.append(ChartLine("kernel: slab and TCP", [None if k is None else k.slab_bytes + k.tcp_bytes for k in kernel]))
    return [
        Chart("cpu", "CPU of each process", "cores", cpu),
        Chart("memory", "Memory in all", "bytes", sums, "RSS of the processes; the kernel's is of the whole machine."),
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
    """Differences of a counter, a second; the first has nothing before it."""
    found: Points = [None]
    for index in range(1, len(counts)):
        now, before = counts[index], counts[index - 1]
        span = drawn[index].time_s - drawn[index - 1].time_s
        found.append(None if now is None or before is None else max(0.0, (now - before) / span))
    return found[: len(counts)]


def _carried(drawn: Sequence[Second], readings: dict[int, Any]) -> list[Any]:
    """For each drawn second the last reading before it; None before the first and after the last one."""
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
