"""Metrics of the stand-in, from what gateways log."""

from __future__ import annotations

import json
from pathlib import Path

from loadtest.cloud.cloudwatch import CloudWatch
from loadtest.cloud.guarding import MetricFeed


def asked(metrics: CloudWatch, name: str, revision: str) -> list[float]:
    dimensions = [{"Name": "service", "Value": "heiwa"}, {"Name": "revision", "Value": revision}]
    query = {"Id": "a", "MetricStat": {"Metric": {"MetricName": name, "Dimensions": dimensions}}}
    request = {"MetricDataQueries": [query], "StartTime": 0, "EndTime": 600}
    values: list[float] = metrics.answer(request)["MetricDataResults"][0]["Values"]
    return values


def test_lines_of_all_gateways_become_sums_by_revision(tmp_path: Path) -> None:
    metrics = CloudWatch()
    feed, logs = MetricFeed(metrics), [tmp_path / "one.log", tmp_path / "two.log"]
    for log, devices in zip(logs, (3, 4), strict=True):
        line = {"_aws": {"Timestamp": 61_000}, "revision": "2", "heiwa_connections": devices}
        line |= {"heiwa_ack_p99_seconds": devices / 10, "service": "heiwa"}
        log.write_text(f'not json\n{json.dumps(line)}\n{{"_aws": half')
    feed.look(logs)
    feed.look(logs)
    assert asked(metrics, "heiwa_connections", "2") == [7]
    assert asked(metrics, "heiwa_ack_p99_seconds", "2") == [0.4]
    assert asked(metrics, "heiwa_connections", "1") == []
