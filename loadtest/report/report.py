"""One self-contained HTML page of a run, or of two side by side: no network, opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import msgspec
from msgspec import Struct

from loadtest.report import charts, tables
from loadtest.report.charts import Chart, Mark
from loadtest.results.result import RunResult
from loadtest.results.series import MachineReadings, Second

FOLDER = Path(__file__).parent
VENDOR = FOLDER / "vendor"


class ReportedRun(Struct, frozen=True):
    """What a page shows of one run. `label` tells two runs apart."""

    result: RunResult
    times: list[float]
    charts: list[Chart]
    marks: list[Mark]
    label: str = ""


def run_of(result: RunResult, seconds: Sequence[Second], machine: MachineReadings, label: str = "") -> ReportedRun:
    """Prepare a run. Time zero is when the fleet began to connect."""
    starts = [event.time_ms / 1000 for event in result.events if event.what == "phase" and event.name == "connect"]
    zero_s = min(starts, default=result.began_ms / 1000)
    # Before that, processes start.
    shown = [second for second in seconds if second.time_s >= zero_s - 2]
    drawn = charts.charts(shown, machine)
    if result.simulated is not None:
        drawn.insert(0, charts.deploy(result.simulated, zero_s))
    return ReportedRun(result, charts.times(shown, zero_s), drawn, charts.marks(result.events, zero_s), label)


def html(runs: Sequence[ReportedRun]) -> str:
    """The page of one run, or of two runs (before and after) with the same axes."""
    first = runs[0].result
    names = " and ".join(dict.fromkeys(run.result.scenario for run in runs))
    title = f"Load test: {names}" if len(runs) == 1 else f"Before and after: {names}"
    data = [
        {"label": run.label, "times": run.times, "charts": run.charts, "marks": run.marks, "name": run.result.scenario}
        for run in runs
    ]
    return Template((FOLDER / "page.html").read_text("utf-8")).substitute(
        title=escape(title),
        description=escape(first.description),
        summary=_summary(runs),
        body="".join(_sections(runs)),
        # A `</script>` within the data must not end it.
        data=msgspec.json.encode(data).decode().replace("<", "\\u003c"),
        style=(FOLDER / "page.css").read_text("utf-8") + (VENDOR / "uPlot.min.css").read_text("utf-8"),
        uplot=(VENDOR / "uPlot.iife.min.js").read_text("utf-8"),
        script=(FOLDER / "plots.js").read_text("utf-8"),
    )


def _summary(runs: Sequence[ReportedRun]) -> str:
    """The figures that a reader looks for first."""
    cards = []
    for run in runs:
        figures = run.result.figures
        missed = [verdict for verdict in run.result.verdicts if verdict.held is False]
        word = "missed" if missed else "held"
        verdict = f"{len(missed)} of {len(run.result.verdicts)} thresholds missed" if missed else "all thresholds held"
        if not run.result.verdicts:
            word, verdict = "not-judged", "no thresholds"
        items = [
            ("maximum connected", tables.number(figures.get("connected_max"))),
            ("events acked", tables.number(figures.get("acked"))),
            ("lost", tables.number(figures.get("lost"))),
            ("unexpected closes", tables.number(figures.get("unexpected_close"))),
            ("ack p99", tables.with_unit(figures.get("ack_p99_ms"), "ms")),
            ("gateway, a connection", tables.with_unit(figures.get("gateway_bytes_per_connection"), "B")),
        ]
        if run.result.waves:
            items[-1:] = [
                ("highest second of new connections", tables.number(figures.get("connect_peak_per_s"))),
                ("highest second / even rate", tables.number(figures.get("connect_peak_ratio"))),
                ("1006 seen", tables.number(figures.get("abnormal_close"))),
                ("gap p99, simulated", tables.with_unit(figures.get("gap_p99_s"), "s")),
            ]
        label = f"<h2>{escape(run.label)}</h2>" if run.label else ""
        ended = f'<p class="verdict missed">Ended early: {escape(run.result.stopped_by)}</p>'
        cards.append(
            f'<div class="summary">{label}<p class="verdict {word}">{escape(verdict)}</p>'
            + (ended if run.result.stopped_by else "")
            + "<dl>"
            + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in items)
            + "</dl></div>"
        )
    return f'<div class="side">{"".join(cards)}</div>'


def _sections(runs: Sequence[ReportedRun]) -> list[str]:
    results = [run.result for run in runs]

    def side(title: str, of: Sequence[str]) -> str:
        if not any(of):
            return ""
        inside = "".join(
            f"<div>{f'<h3>{escape(run.label)}</h3>' if run.label else ''}{part}</div>"
            for run, part in zip(runs, of, strict=True)
        )
        return f'<section><h2>{escape(title)}</h2><div class="side">{inside}</div></section>'

    return [
        side("Thresholds", [tables.thresholds(result.verdicts) for result in results]),
        '<section><h2>Over time</h2><div id="charts"></div></section>',
        side("Waves", [tables.waves(result.waves) for result in results]),
        side("Drains", [tables.drains(result.waves) for result in results]),
        side("Devices by client model", [tables.client_models(result.client_models) for result in results]),
        f"<section><h2>Figures</h2>{tables.figures(results)}</section>",
        side(
            "Closes and refusals",
            [tables.counts("close code", r.closed) + tables.counts("refused with", r.refused) for r in results],
        ),
        side("Lost events", [_names(result.lost_ids) for result in results]),
        side("Events stored twice", [_names(result.doubled_ids) for result in results]),
        side("Processes", [tables.processes(result.processes) for result in results]),
        side("What happened", [tables.events(result.events, result.began_ms) for result in results]),
        side("The run", [tables.about(result) for result in results]),
        side("Scenario", [_scenario(result) for result in results]),
    ]


def _names(ids: Sequence[str]) -> str:
    return f"<pre>{escape(chr(10).join(ids))}</pre>" if ids else ""


def _scenario(result: RunResult) -> str:
    text = msgspec.json.format(msgspec.json.encode(result.options.get("scenario", {})), indent=2).decode()
    return f"<details><summary>{escape(result.scenario)}</summary><pre>{escape(text)}</pre></details>"
