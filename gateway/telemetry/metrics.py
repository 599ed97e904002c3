"""One registry of metrics a process, and what its collectors are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import CollectorRegistry


class Collector(Protocol):
    """A part that counts in plain integers on the hot path and builds metric families only when scraped."""

    def collect(self) -> Iterable[Metric]: ...


def new_registry(*collectors: Collector) -> CollectorRegistry:
    """A registry of its own, so that several gateways can live in one test process."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return registry


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """A counter without labels; `_total` is added to its name when it is shown."""
    return CounterMetricFamily(name, text, value=value)
