"""Counts of what OpenSearch answered, and how Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric

from gateway.locations.bulk_outcome import Answer

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class BulkMetrics:
    """Bulk requests by their answer, documents by what became of them, and round trips."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.documents: Counter[str] = Counter()
        self._buckets = [0] * (len(_BUCKETS_S) + 1)
        self._seconds = 0.0

    def seen(self, answer: Answer, seconds: float) -> None:
        """One exchange has ended."""
        name = answer.silence.name.lower() if answer.silence is not None else str(answer.status)
        self.answers[name] += 1
        self._seconds += seconds
        self._buckets[sum(seconds > bound for bound in _BUCKETS_S)] += 1

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        answers = CounterMetricFamily(
            "heiwa_opensearch_bulk_answers", "Bulk requests by HTTP status, or why there was none.", labels=["answer"]
        )
        for name, number in self.answers.items():
            answers.add_metric([name], number)
        yield answers
        documents = CounterMetricFamily(
            "heiwa_opensearch_documents", "Documents by what became of them.", labels=["outcome"]
        )
        for name, number in self.documents.items():
            documents.add_metric([name], number)
        yield documents
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, number in zip((*_BUCKETS_S, "+Inf"), self._buckets, strict=True):
            total += number
            buckets.append((str(bound), total))
        yield HistogramMetricFamily("heiwa_opensearch_bulk_seconds", "Round trips.", buckets, self._seconds)
