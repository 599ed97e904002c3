"""The tables of a report, as HTML that needs no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from time import gmtime, strftime

from loadtest.fleet.sample import ClientModelCounts
from loadtest.results.records import Happened
from loadtest.results.result import RunResult
from loadtest.results.series import Usage
from loadtest.results.waves import Wave
from loadtest.scenario.metrics import FIGURES
from loadtest.scenario.thresholds import ThresholdVerdict

Cell = tuple[str, str]
MAX_EVENTS = 50
HELD = {True: "held", False: "missed", None: "not judged"}


def table(heads: Sequence[str], rows: Iterable[Sequence[str | Cell]], caption: str = "") -> str:
    """A table. Cells are text, or text with a CSS class; `n` is that of numbers."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def thresholds(verdicts: Sequence[ThresholdVerdict]) -> str:
    if not verdicts:
        return "<p>The scenario has no thresholds.</p>"
    rows: list[list[str | Cell]] = [
        [
            (HELD[verdict.held], f"verdict {HELD[verdict.held].replace(' ', '-')}"),
            verdict.threshold,
            (number(verdict.value), "n"),
            (number(verdict.margin), "n"),
            verdict.note,
        ]
        for verdict in verdicts
    ]
    return table(["", "threshold", "value", "margin", ""], rows)


def figures(results: Sequence[RunResult]) -> str:
    """All measured figures; with two runs those of both, and the second divided by the first."""
    rows: list[list[str | Cell]] = []
    for name, figure in FIGURES.items():
        values = [result.figures.get(name) for result in results]
        if all(value is None for value in values):
            continue
        cells: list[str | Cell] = [(with_unit(value, figure.unit), "n") for value in values]
        if len(values) == 2:
            before, after = values
            cells.append((f"{after / before:.2f}" if before and after is not None else "–", "n"))
        rows.append([(name, "code"), *cells, figure.meaning])
    heads = ["value"] if len(results) == 1 else ["before", "after", "after / before"]
    return table(["figure", *heads, "meaning"], rows)


def processes(usages: Sequence[Usage]) -> str:
    rows: list[list[str | Cell]] = [
        [
            usage.name + (" (died)" if usage.died else ""),
            (f"{usage.cpu_s:,.1f} s", "n"),
            (with_unit(usage.base_rss_bytes, "B"), "n"),
            (with_unit(usage.max_rss_bytes, "B"), "n"),
            (with_unit(usage.pss_bytes or None, "B"), "n"),
            (with_unit(usage.private_bytes or None, "B"), "n"),
            (number(usage.max_files or None), "n"),
        ]
        for usage in sorted(usages, key=lambda usage: (usage.role, _natural(usage.name)))
    ]
    return table(["process", "CPU", "first RSS", "maximum RSS", "PSS", "private", "open files"], rows)


def waves(of: Sequence[Wave]) -> str:
    """The waves of a deploy; empty without a deploy. Seconds and rates are simulated."""
    if not of:
        return ""
    rows: list[list[str | Cell]] = [
        [
            (number(value), "n")
            for value in (
                wave.number,
                wave.connections,
                wave.window_s,
                wave.even_per_s,
                wave.peak_per_s,
                wave.ratio,
                wave.limit_ratio,
                wave.plan_peak_per_s,
                wave.plan_ratio,
                wave.calls_per_s,
                *(() if wave.step is None else (100 * wave.step.weight, wave.step.on_old, wave.step.on_new)),
            )
        ]
        for wave in of
    ]
    heads = "wave,connections,window s,even /s,highest /s,highest / even,highest / limit,planned /s,highest / planned"
    weights = [] if of[0].step is None else ["weight of the new %", "on the old", "on the new"]
    return table([*heads.split(","), "polls /s", *weights], rows, "Simulated seconds")


def drains(of: Sequence[Wave]) -> str:
    """What each gateway of a deploy did; empty without a deploy."""
    rows: list[list[str | Cell]] = [
        [
            (number(wave.number), "n"),
            one.name,
            one.state,
            one.origin,
            one.outcome,
            *(
                (number(value), "n")
                for value in (one.connections, one.sent_away, one.leftover, one.overrun, one.window_s, one.took_s)
            ),
        ]
        for wave in of
        for one in wave.drains
    ]
    heads = "wave,gateway,state,begun by,outcome,connections,sent away,left over,overrun,window s,took s"
    return table(heads.split(","), rows, "From the receipts; seconds are simulated") if rows else ""


def client_models(of: Mapping[str, ClientModelCounts]) -> str:
    """The devices of each client model at the end. A 1006 counts unless the device itself broke the connection."""
    if not of or all(not one.devices for one in of.values()):
        return ""
    rows: list[list[str | Cell]] = [
        [
            name,
            *((number(value), "n") for value in (one.devices, one.connected, one.given_up, one.abnormal)),
        ]
        for name, one in of.items()
    ]
    return table(["client model", "devices", "connected at the end", "stopped for good", "1006 seen"], rows)


def counts(title: str, of: dict[str, int]) -> str:
    if not of:
        return ""
    return table([title, "count"], [[code, (number(count), "n")] for code, count in of.items()])


def events(happened: Sequence[Happened], began_ms: int) -> str:
    """The events of a run, with times from its start; of each kind the first MAX_EVENTS."""
    rows, left = [], dict.fromkeys(("note", "died", "action", "wave", "phase"), MAX_EVENTS)
    for event in happened:
        left[event.what] -= 1
        if left[event.what] < 0:
            continue
        detail = ", ".join(
            f"{name} {value}" for name, value in event.fields.items() if name not in ("process", "time_ms")
        )
        text = f"{event.text}{f': {detail}' if detail else ''}"
        rows.append([(f"{(event.time_ms - began_ms) / 1000:,.1f} s", "n"), event.what, event.name, text])
    return table(["after", "kind", "name", "text"], rows)


def about(result: RunResult) -> str:
    """Machine, versions, seed, and the options of the run."""
    options = result.options
    rows = [
        ["began", strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(result.began_ms / 1000))],
        ["took", f"{(result.ended_ms - result.began_ms) / 1000:,.0f} s"],
        ["seed", str(result.seed)],
        ["shares", ", ".join(result.shares)],
        ["gateways", str(options.get("gateways") or ", ".join(options.get("targets", [])))],
        ["fleet processes", str(options.get("fleets", ""))],
        ["versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())],
    ]
    for machine in result.machines:
        memory = with_unit(machine.get("memory_bytes"), "B")
        rows.append(
            [
                "machine",
                f"{machine.get('processors')} × {machine.get('processor')}, {memory}, Linux {machine.get('kernel')}, "
                f"{machine.get('files_a_process')} files a process",
            ]
        )
    return table(["", ""], rows)


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:,.3g}"


def with_unit(value: float | None, unit: str) -> str:
    """A number with its unit; from 10 KB on, bytes are in larger units (of 1000)."""
    if value is None:
        return "–"
    if unit == "B":
        for factor, name in ((1e9, "GB"), (1e6, "MB"), (1e4, "KB")):
            if abs(value) >= factor:
                return f"{value / min(factor, 1e3 if name == 'KB' else factor):,.1f} {name}"
        return f"{value:,.0f} B"
    return f"{number(value)}{unit if unit.startswith('/') else f' {unit}' if unit else ''}"


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f'<td class="{escape(cell[1])}">{escape(cell[0])}</td>'


def _natural(name: str) -> tuple[object, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.replace("-", ".").split("."))
