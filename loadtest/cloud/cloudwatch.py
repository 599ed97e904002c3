"""The metrics of an Amazon CloudWatch stand-in: what a test puts in by minute, as GetMetricData answers it; no sockets.

Amazon CloudWatch API reference, GetMetricData and MetricDataResult. Not like AWS: there is one value a minute and set
of dimensions, no expression, and any statistic gives the value that was put in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

Key = tuple[str, str]


class CloudWatch:
    """`put` values, and `answer` questions, `page` values of a metric at a time.

    Metrics that are `broken` have the status InternalError.
    """

    def __init__(self) -> None:
        self.page = 100_800
        self.broken: set[str] = set()
        self._values: defaultdict[Key, dict[int, float]] = defaultdict(dict)

    def put(self, metric: str, revision: str, minute_s: float, value: float) -> None:
        """One value, in the minute that begins then (s since the Unix epoch)."""
        self._values[metric, revision][int(minute_s)] = value

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of GetMetricData, oldest first."""
        begin_s, end_s = float(request["StartTime"]), float(request["EndTime"])
        skip = int(request.get("NextToken", 0))
        results = [self._result(query, begin_s, end_s, skip) for query in request["MetricDataQueries"]]
        answer: dict[str, Any] = {"MetricDataResults": results, "Messages": []}
        if any(one["StatusCode"] == "PartialData" for one in results):
            answer["NextToken"] = str(skip + self.page)
        return answer

    def _result(self, query: Mapping[str, Any], begin_s: float, end_s: float, skip: int) -> dict[str, Any]:
        metric = query["MetricStat"]["Metric"]
        dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", ())}
        known = self._values.get((metric["MetricName"], dimensions.get("revision", "")), {})
        broken = metric["MetricName"] in self.broken
        whole = [] if broken else sorted(one for one in known.items() if begin_s <= one[0] < end_s)
        found = whole[skip : skip + self.page]
        status = "PartialData" if len(whole) > skip + self.page else "Complete"
        return {
            "Id": query["Id"],
            "Label": metric["MetricName"],
            "Timestamps": [minute for minute, _ in found],
            "Values": [value for _, value in found],
            "StatusCode": "InternalError" if broken else status,
        }
