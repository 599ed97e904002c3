"""Metrics as lines of the log from which Amazon CloudWatch makes metrics: one a minute.

Amazon CloudWatch user guide, "Specification: Embedded metric format". Each name, with each set of dimensions, is billed
as a metric of its own: this is a choice of what alarms, scaling and a dashboard need, not all that Prometheus gets.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from prometheus_client.metrics_core import Metric

from gateway.telemetry.log import EMF, Log
from gateway.telemetry.names import ACK_P99, NAMESPACE

PERIOD_S = 60.0
COUNT, SECONDS, BYTES, NONE = "Count", "Seconds", "Bytes", "None"
_TOTAL = "_total"
# From taking a batch to its last acknowledgement: of its buckets a percentile is made.
_ACKS = "heiwa_locations_flush_seconds_bucket"
_PERCENT = 0.99

_log = Log("telemetry")


class Choice(NamedTuple):
    """What CloudWatch gets of a metric: the sum of its samples that have these labels.

    Of a counter (`…_total`) it gets what was added since the line before, under the name without `_total`.
    `by_revision`: also for each revision, so that the two of a deploy can be compared.
    """

    metric: str
    unit: str
    by_revision: bool = False
    labels: Mapping[str, str] = {}
    own_name: str = ""

    @property
    def name(self) -> str:
        """What CloudWatch calls it."""
        return self.own_name or self.metric.removesuffix(_TOTAL)


CHOSEN = (
    Choice("heiwa_connections", COUNT, by_revision=True),
    Choice("heiwa_connections_opened_total", COUNT, by_revision=True),
    Choice("heiwa_handshakes_refused_total", COUNT, by_revision=True),
    Choice("heiwa_disconnects_total", COUNT, by_revision=True),
    Choice(
        "heiwa_disconnects_total",
        COUNT,
        by_revision=True,
        labels={"fault": "us"},
        own_name="heiwa_disconnects_our_fault",
    ),
    Choice(
        "heiwa_disconnects_total",
        COUNT,
        by_revision=True,
        labels={"fault": "plan"},
        own_name="heiwa_disconnects_planned",
    ),
    Choice("heiwa_memory_share", NONE),
    Choice("heiwa_event_loop_lag_seconds", SECONDS),
    Choice("heiwa_locations_acknowledged_total", COUNT, by_revision=True),
    Choice(_ACKS, SECONDS, by_revision=True, own_name=ACK_P99),
    Choice(
        "heiwa_locations_acknowledged_total",
        COUNT,
        labels={"durability": "firehose"},
        own_name="heiwa_locations_overflowed",
    ),
    Choice(
        "heiwa_locations_acknowledged_total",
        COUNT,
        labels={"durability": "spooled"},
        own_name="heiwa_locations_spooled",
    ),
    Choice("heiwa_locations_refused_total", COUNT, by_revision=True),
    Choice("heiwa_locations_index_failures_total", COUNT),
    Choice("heiwa_locations_stream_failures_total", COUNT),
    Choice("heiwa_locations_spool_failures_total", COUNT),
    Choice("heiwa_locations_spool_events", COUNT),
    Choice("heiwa_locations_spool_bytes", BYTES),
    Choice("heiwa_locations_unaccounted_events", COUNT),
    Choice("heiwa_locations_damaged_files", COUNT),
    Choice("heiwa_clock_off", NONE),
    Choice("heiwa_broker_up", NONE),
    Choice("heiwa_drain_state", COUNT, labels={"state": "serving"}, own_name="heiwa_serving"),
    Choice("heiwa_drain_state", COUNT, labels={"state": "draining"}, own_name="heiwa_draining"),
    Choice("heiwa_drain_connections_remaining", COUNT),
    Choice("heiwa_drain_overrun_total", COUNT),
    Choice("heiwa_drain_leftover_total", COUNT),
    Choice("heiwa_drain_signal_up", NONE),
    Choice("heiwa_drain_poll_age_seconds", SECONDS),
    Choice("heiwa_shift_signal_up", NONE),
    Choice("heiwa_workflow_runs", COUNT),
    Choice("heiwa_workflow_transitions_total", COUNT),
    Choice(
        "heiwa_workflow_runs_ended_total", COUNT, labels={"status": "failed"}, own_name="heiwa_workflow_runs_failed"
    ),
    Choice("heiwa_workflow_attempts_total", COUNT, labels={"outcome": "lost"}, own_name="heiwa_workflow_attempts_lost"),
    Choice("heiwa_workflow_loop_stood_total", COUNT),
    Choice("heiwa_rebalancer_managers", COUNT),
    Choice("heiwa_rebalancer_takeovers_total", COUNT),
)


class Dimensions(NamedTuple):
    """What tells the metrics of this process from others'. `revision` "": not known, and not told."""

    service: str
    role: str
    revision: str = ""


def values(families: Iterable[Metric]) -> dict[str, float]:
    """By CloudWatch's names, counters as totals; what is not there is left out, as is what is no number."""
    found: dict[str, float] = {}
    chosen: dict[str, list[Choice]] = {}
    for choice in CHOSEN:
        if choice.metric != _ACKS:
            chosen.setdefault(choice.metric, []).append(choice)
    for family in families:
        for sample in family.samples:
            if sample.name == _ACKS:
                found[_ACKS + sample.labels["le"]] = sample.value
            for choice in chosen.get(sample.name, ()):
                if choice.labels.items() <= sample.labels.items() and math.isfinite(sample.value):
                    found[choice.name] = found.get(choice.name, 0.0) + sample.value
    return found


def document(now: Mapping[str, float], before: Mapping[str, float], time_ms: int, of: Dimensions) -> dict[str, Any]:
    """One line: the metrics, and which of its members are metrics. `now` and `before` as `values` gives them."""
    acks = _acks_p99_s(now, before)
    now = now if acks is None else {**now, ACK_P99: acks}
    shown = [choice for choice in CHOSEN if choice.name in now]
    directives = [_directive(shown, "service", "role")]
    dimensions = {"service": of.service, "role": of.role}
    if of.revision:
        directives.append(_directive([choice for choice in shown if choice.by_revision], "service", "role", "revision"))
        dimensions["revision"] = of.revision
    counted = {
        choice.name: now[choice.name] - (before.get(choice.name, 0.0) if choice.metric.endswith(_TOTAL) else 0.0)
        for choice in shown
    }
    return {"_aws": {"Timestamp": time_ms, "CloudWatchMetrics": directives}, **dimensions, **counted}


def _acks_p99_s(now: Mapping[str, float], before: Mapping[str, float]) -> float | None:
    """Of the acks since the line before; None: there were none."""
    bounds = sorted((float(name.removeprefix(_ACKS)), name) for name in now if name.startswith(_ACKS))
    counted = [(bound, now[name] - before.get(name, 0.0)) for bound, name in bounds]
    if not counted or counted[-1][1] <= 0:
        return None
    finite = [bound for bound, _ in counted if math.isfinite(bound)]
    holding = next(bound for bound, count in counted if count >= _PERCENT * counted[-1][1])
    # Above the last bound it is only known to be above it.
    return min(holding, 2 * finite[-1]) if finite else None


def _directive(choices: Iterable[Choice], *dimensions: str) -> dict[str, Any]:
    return {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": choice.name, "Unit": choice.unit} for choice in choices],
    }


class Collecting(Protocol):
    """A registry."""

    def collect(self) -> Iterable[Metric]: ...


class EmfReporter:
    """Writes a line a minute. `revision` is asked once; it answers "" when it does not know."""

    def __init__(
        self,
        registry: Collecting,
        time_ms: Callable[[], int],
        service: str,
        role: str,
        revision: Callable[[], Awaitable[str]],
        period_s: float = PERIOD_S,
    ) -> None:
        self._registry = registry
        self._time_ms = time_ms
        self._service = service
        self._role = role
        self._revision = revision
        self._period_s = period_s

    async def run(self) -> None:
        """Until it is cancelled; a last line then tells the rest of the minute, or each deploy would lose it."""
        of = Dimensions(self._service, self._role, await self._revision())
        before: dict[str, float] = {}
        try:
            while True:
                await asyncio.sleep(self._period_s)
                before = self._write(of, before)
        finally:
            self._write(of, before)

    def _write(self, of: Dimensions, before: dict[str, float]) -> dict[str, float]:
        try:
            return self._line(of, before)
        except Exception as error:
            # One figure that cannot be told must not end what the figures are about.
            _log.error("metrics_not_told", exc_info=error)
            return before

    def _line(self, of: Dimensions, before: Mapping[str, float]) -> dict[str, float]:
        # The loop owns the figures; they are few, and no text is made of the others.
        now = values(self._registry.collect())
        line = msgspec.json.encode(document(now, before, self._time_ms(), of)).decode()
        logging.getLogger(EMF).info("%s", line)
        return now
