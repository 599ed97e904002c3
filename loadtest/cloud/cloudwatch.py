"""The metrics of an Amazon CloudWatch stand-in: what a test puts in by minute, as GetMetricData answers it; no sockets.

Amazon CloudWatch API reference, GetMetricData and MetricDataResult. Not like AWS: there is one value a minute and set
of dimensions, no expression, no pagination, and any statistic gives the value that was put in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

Key = tuple[str, str]


class CloudWatch:
    """`put` values, and `answer` questions."""

    def __init__(self) -> None:
        self._values: defaultdict[Key, dict[int, float]] = defaultdict(dict)

    def put(self, metric: str, revision: str, minute_s: float, value: float) -> None:
        """One value, in the minute that begins then (s since the Unix epoch)."""
        self._values[metric, revision][int(minute_s)] = value

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of GetMetricData, oldest first."""
        begin_s, end_s = float(request["StartTime"]), float(request["EndTime"])
        return {
            "MetricDataResults": [self._result(query, begin_s, end_s) for query in request["MetricDataQueries"]],
            "Messages": [],
        }

    def _result(self, query: Mapping[str, Any], begin_s: float, end_s: float) -> dict[str, Any]:
        metric = query["MetricStat"]["Metric"]
        dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", ())}
        known = self._values.get((metric["MetricName"], dimensions.get("revision", "")), {})
        found = sorted((minute, value) for minute, value in known.items() if begin_s <= minute < end_s)
        return {
            "Id": query["Id"],
            "Label": metric["MetricName"],
            "Timestamps": [minute for minute, _ in found],
            "Values": [value for _, value in found],
            "StatusCode": "Complete",
        }
