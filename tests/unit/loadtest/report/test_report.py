"""What is made of a run: the page, the comparison, metrics, result; all from `samples.jsonl`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import HeiwaError, SettingsError
from loadtest.report import charts, tables
from loadtest.results import records
from loadtest.results.records import RunRecord
from loadtest.results.series import Second
from loadtest.run import compare, folder
from tests.support.recordings import ZERO_S, a_run, begin, happened, recorder, told

EVIL = "</script><script>alert(1)</script>"


def written(path: Path, lines: Iterable[RunRecord]) -> Path:
    """A folder with a run's records."""
    path.mkdir()
    (path / folder.SAMPLES).write_bytes(b"".join(records.encode(line) + b"\n" for line in lines))
    return path


def data_of(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: list[dict[str, Any]] = json.loads(found[1])
    return data


def test_a_run_becomes_result_metrics_and_page(tmp_path: Path) -> None:
    run = written(tmp_path / "run", a_run(thresholds=["lost == 0", "ack_p99_ms < 1"]))
    compare.write([run], None)
    result = json.loads((run / folder.RESULT).read_text())
    assert result["figures"]["acked"] == 170
    assert [verdict["held"] for verdict in result["verdicts"]] == [True, False]
    metrics = (run / folder.METRICS).read_text()
    assert 'heiwa_loadtest_acked{scenario="steady"} 170\n' in metrics
    assert 'heiwa_loadtest_threshold_held{scenario="steady",threshold="ack_p99_ms < 1"} 0' in metrics
    page = (run / folder.REPORT).read_text()
    assert "1 of 2 thresholds missed" in page
    [data] = data_of(page)
    keys = [chart["key"] for chart in data["charts"]]
    assert keys == ["connections", "connects", "events", "open", "ack", "cpu", "memory", "rss"]
    assert all(len(line["values"]) == len(data["times"]) for chart in data["charts"] for line in chart["lines"])
    assert [mark["text"] for mark in data["marks"]] == ["connect", "measure", "settle", "stop"]


def test_metrics_are_the_prometheus_text_format(tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    run = written(tmp_path / "run", a_run(thresholds=["lost == 0"]))
    compare.write([run], None)
    families = list(parser.text_string_to_metric_families((run / folder.METRICS).read_text()))
    assert all(family.documentation and family.samples for family in families if "by_" not in family.name)


def test_the_page_needs_no_network_and_believes_no_text(tmp_path: Path) -> None:
    lines = [*a_run(description=EVIL), happened(5, "died", EVIL, EVIL), happened(6, "note", EVIL)]
    run = written(tmp_path / "run", lines)
    compare.write([run], None)
    page = (run / folder.REPORT).read_text()
    assert "default-src 'none'" in page
    assert EVIL not in page
    assert "<b>fast</b>" not in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert not re.search(r"@import|url\(", page)
    assert data_of(page)[0]["marks"][-1]["text"] == EVIL


def test_the_vendored_plots_have_their_licence() -> None:
    vendor = Path(charts.__file__).parent / "vendor"
    assert "v1.6.32" in (vendor / "uPlot.iife.min.js").read_text()[:100]
    assert "MIT License" in (vendor / "uPlot.LICENSE").read_text()
    assert "1.6.32" in (vendor / "README.md").read_text()


def test_two_runs_are_shown_side_by_side(tmp_path: Path) -> None:
    before = written(tmp_path / "before", a_run(devices=10))
    after = written(tmp_path / "after", a_run(devices=20))
    page = compare.write([before, after], None)
    assert page == after / "comparison.html"
    text = page.read_text()
    assert [run["label"] for run in data_of(text)] == ["before", "after"]
    row = re.search(r'<tr><td class="code">connected</td>(.*?)</tr>', text)
    assert row is not None
    assert re.findall(r">([^<]+)</td>", row[1])[:3] == ["10", "20", "2.00"]


def test_shares_of_one_run_become_one_report(tmp_path: Path) -> None:
    shares = [
        written(tmp_path / str(number), [begin(f"{number}/2", 5), told(1, f"fleet-{number}.1", connected=5, sent=3)])
        for number in (1, 2)
    ]
    page = compare.write(shares, tmp_path / "all.html")
    [data] = data_of(page.read_text())
    assert data["charts"][0]["lines"][0]["values"] == [10]


def test_three_runs_are_too_many(tmp_path: Path) -> None:
    runs = [written(tmp_path / str(number), a_run()) for number in range(3)]
    with pytest.raises(SettingsError, match="3 runs"):
        compare.write(runs, None)


def test_a_run_that_crashed_still_has_a_report(tmp_path: Path) -> None:
    run = written(tmp_path / "run", a_run()[:40])
    with (run / folder.SAMPLES).open("ab") as file:
        file.write(b'{"line":"fleet","sample":{"sha')
    assert "Load test: steady" in compare.write([run], None).read_text()


@pytest.mark.parametrize("content", [None, b"", b"{}\n", b"nonsense\nmore\n"])
def test_a_folder_without_a_run_is_said(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / folder.SAMPLES).write_bytes(content)
    with pytest.raises(HeiwaError, match="no run in"):
        compare.write([tmp_path], None)


def test_a_folder_is_used_once(tmp_path: Path) -> None:
    run = written(tmp_path / "run", a_run())
    with pytest.raises(SettingsError, match="holds a run already"):
        folder.make(run)
    assert folder.make(tmp_path / "new/run").is_dir()


def test_a_long_run_is_drawn_in_steps_and_keeps_its_peaks() -> None:
    seconds = [
        Second(time_s=ZERO_S + at_s, connected=at_s, connects=at_s * 2, ack_max_ms=900.0 if at_s == 1001 else 1.0)
        for at_s in range(charts.MAX_POINTS * 3)
    ]
    drawn = {chart.key: chart for chart in charts.charts(seconds, recorder().machine)}
    times = charts.times(seconds, ZERO_S)
    assert len(times) == charts.MAX_POINTS
    assert times[-1] == seconds[-1].time_s - ZERO_S
    assert {value for value in drawn["connects"].lines[0].values if value is not None} == {2.0}
    assert max(value or 0 for value in drawn["ack"].lines[2].values) == 900


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "B", "–"),
        (999, "B", "999 B"),
        (4888, "B", "4,888 B"),
        (51_175_424, "B", "51.2 MB"),
        (12_300, "B", "12.3 KB"),
        (2.5e9, "B", "2.5 GB"),
        (0.1234, "ms", "0.123 ms"),
        (1234.56, "ms", "1,234.6 ms"),
        (98, "/s", "98/s"),
        (0, "", "0"),
        (45.023, "ms", "45 ms"),
    ],
)
def test_numbers_are_short(value: float | None, unit: str, text: str) -> None:
    assert tables.with_unit(value, unit) == text
