"""Counts of location ingest, as plain integers, and how Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from gateway.locations.outcome import Durability

_FLUSH_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Counters:
    """What happened since the start. Every event that was accepted ends in `acknowledged` or in `refused`."""

    def __init__(self) -> None:
        self.accepted = 0
        self.acknowledged = dict.fromkeys(Durability, 0)
        self.refused: Counter[str] = Counter()
        self.replayed = 0
        self.index_failures = 0
        self.passed = 0
        self.stream_failures = 0
        self.spool_failures = 0
        self.sender_errors = 0
        self.flushes = 0
        self.flush_s = 0.0
        self._flush_buckets = [0] * (len(_FLUSH_BUCKETS_S) + 1)

    def settled(self) -> int:
        """How many events were acknowledged or refused."""
        return sum(self.acknowledged.values()) + sum(self.refused.values())

    def flushed(self, seconds: float) -> None:
        """Count a batch that was settled, and the seconds it took."""
        self.flushes += 1
        self.flush_s += seconds
        self._flush_buckets[sum(seconds > bound for bound in _FLUSH_BUCKETS_S)] += 1

    def families(self) -> Iterator[Metric]:
        """Metric families for a custom collector."""
        yield CounterMetricFamily("heiwa_locations_accepted", "Location events taken in.", self.accepted)
        acknowledged = CounterMetricFamily(
            "heiwa_locations_acknowledged", "Events acknowledged, by where they are safe.", labels=["durability"]
        )
        for durability, events in self.acknowledged.items():
            acknowledged.add_metric([durability.value], events)
        yield acknowledged
        refused = CounterMetricFamily("heiwa_locations_refused", "Events refused, by code.", labels=["code"])
        for code, events in self.refused.items():
            refused.add_metric([code], events)
        yield refused
        yield CounterMetricFamily(
            "heiwa_locations_replayed", "Events moved from the spool to the index.", self.replayed
        )
        yield CounterMetricFamily(
            "heiwa_locations_index_failures", "Batches of which the index took not all.", self.index_failures
        )
        yield CounterMetricFamily(
            "heiwa_locations_passed_index", "Events that did not wait for the index: it is at its limit.", self.passed
        )
        yield CounterMetricFamily(
            "heiwa_locations_stream_failures",
            "Batches of which the overflow stream took not all.",
            self.stream_failures,
        )
        yield CounterMetricFamily(
            "heiwa_locations_spool_failures", "Batches that the spool did not take: alarm.", self.spool_failures
        )
        yield CounterMetricFamily(
            "heiwa_locations_sender_errors", "Exceptions raised by connections when told.", self.sender_errors
        )
        yield self._flush_histogram()

    def _flush_histogram(self) -> HistogramMetricFamily:
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, flushes in zip((*_FLUSH_BUCKETS_S, "+Inf"), self._flush_buckets, strict=True):
            total += flushes
            buckets.append((str(bound), total))
        return HistogramMetricFamily(
            "heiwa_locations_flush_seconds", "From taking a batch to its last acknowledgement.", buckets, self.flush_s
        )
