"""Lines for CloudWatch: what they hold, by its specification of the embedded metric format."""

from __future__ import annotations

import asyncio
import io
import json
import math
import sys
from collections.abc import Iterable

import pytest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.telemetry.emf import CHOSEN, Choice, Dimensions, EmfReporter, document, values
from gateway.telemetry.output import logging_to_stderr

UNITS = {"Count", "Seconds", "Bytes", "None"}


class Registry:
    """Two metrics, the counter one more each time."""

    def __init__(self) -> None:
        self.asked = 0
        self.third = asyncio.Event()

    def collect(self) -> Iterable[Metric]:
        self.asked += 1
        if self.asked == 3:
            self.third.set()
        refused = CounterMetricFamily("heiwa_handshakes_refused", "", labels=["status", "reason"])
        refused.add_metric(["401", "token"], 10 * self.asked)
        refused.add_metric(["503", "memory"], self.asked)
        state = GaugeMetricFamily("heiwa_drain_state", "", labels=["state"])
        for name in ("serving", "draining"):
            state.add_metric([name], float(name == "serving"))
        return [GaugeMetricFamily("heiwa_connections", "", value=7), refused, state]


def test_samples_are_summed_and_chosen_by_their_labels() -> None:
    assert values(Registry().collect()) == {
        "heiwa_connections": 7,
        "heiwa_handshakes_refused": 11,
        "heiwa_serving": 1,
        "heiwa_draining": 0,
    }


def test_what_is_no_number_is_left_out() -> None:
    assert values([GaugeMetricFamily("heiwa_connections", "", value=math.nan)]) == {}


def test_counters_are_told_by_what_was_added() -> None:
    registry = Registry()
    first, second = values(registry.collect()), values(registry.collect())
    line = document(second, first, 1_764_374_400_000, Dimensions("heiwa", "gateway"))
    assert (line["heiwa_handshakes_refused"], line["heiwa_connections"]) == (11, 7)
    assert line["_aws"]["Timestamp"] == 1_764_374_400_000


def test_a_revision_is_a_dimension_of_some() -> None:
    now = {choice.name: 1.0 for choice in CHOSEN}
    for_all, by_revision = document(now, {}, 0, Dimensions("dogs", "gateway", "17"))["_aws"]["CloudWatchMetrics"]
    assert for_all["Dimensions"] == [["service", "role"]]
    assert by_revision["Dimensions"] == [["service", "role", "revision"]]
    names = {one["Name"] for one in by_revision["Metrics"]}
    assert names < {one["Name"] for one in for_all["Metrics"]}
    assert names == {choice.name for choice in CHOSEN if choice.by_revision}


def test_a_line_is_what_the_specification_allows() -> None:
    """At most 100 metrics a directive; each a number at the root; dimensions texts at the root; a known unit."""
    now = {choice.name: 1.5 for choice in CHOSEN}
    line = json.loads(json.dumps(document(now, {}, 0, Dimensions("dogs", "gateway", "17"))))
    for directive in line["_aws"]["CloudWatchMetrics"]:
        assert 0 < len(directive["Metrics"]) <= 100
        assert directive["Namespace"] == "Heiwa"
        for metric in directive["Metrics"]:
            assert isinstance(line[metric["Name"]], float)
            assert metric["Unit"] in UNITS
        for name in directive["Dimensions"][0]:
            assert isinstance(line[name], str)
    assert len(json.dumps(line)) < 256_000


def test_no_name_is_given_twice() -> None:
    names = [choice.name for choice in CHOSEN]
    assert len(names) == len(set(names))
    assert Choice("heiwa_x_total", "Count").name == "heiwa_x"


@pytest.mark.parametrize("style", ["json", "text"])
async def test_lines_are_written_whole_at_every_level(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    registry = Registry()

    async def revision() -> str:
        return "17"

    with logging_to_stderr("error", style):
        reporter = EmfReporter(registry, lambda: 1, "dogs", "gateway", revision, period_s=0.001)
        task = asyncio.create_task(reporter.run())
        await asyncio.wait_for(registry.third.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    first, second, *_, last = (json.loads(line) for line in written.getvalue().splitlines())
    assert (first["heiwa_handshakes_refused"], second["heiwa_handshakes_refused"]) == (11, 11)
    assert (first["service"], first["role"], first["revision"]) == ("dogs", "gateway", "17")
    assert last["heiwa_connections"] == 7


async def test_the_rest_of_a_minute_is_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    asked = asyncio.Event()

    async def revision() -> str:
        asked.set()
        return ""

    task = asyncio.create_task(EmfReporter(Registry(), lambda: 1, "dogs", "gateway", revision).run())
    await asyncio.wait_for(asked.wait(), 20)
    task.cancel()
    with caplog.at_level("INFO"):
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert [json.loads(record.message)["heiwa_handshakes_refused"] for record in caplog.records] == [11]


async def test_a_figure_that_cannot_be_told_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Registry):
        asked = 0

        def collect(self) -> Iterable[Metric]:
            self.asked += 1
            if self.asked == 1:
                raise KeyError("a defect")
            return super().collect()

    async def revision() -> str:
        return ""

    registry = Broken()
    with caplog.at_level("INFO"):
        task = asyncio.create_task(EmfReporter(registry, lambda: 1, "dogs", "gateway", revision, period_s=0.001).run())
        await asyncio.wait_for(registry.third.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert caplog.records[0].getMessage() == "metrics_not_told"
    assert task.cancelled()
