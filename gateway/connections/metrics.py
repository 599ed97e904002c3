"""Connections as Prometheus sees them; built from plain counts when scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from gateway.connections.door import Door
from gateway.connections.housekeeping import Housekeeping
from gateway.connections.hub import Hub
from gateway.telemetry.metrics import counter, gauge
from gateway.wire.close_codes import CLOSE_CODES


class ProcessMetrics:
    """A collector of what every process has: a loop and memory."""

    def __init__(self, hub: Hub, housekeeping: Housekeeping) -> None:
        self._hub = hub
        self._housekeeping = housekeeping

    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        yield gauge("heiwa_event_loop_lag_seconds", "How late the last tick was.", hub.lag_s)
        yield gauge("heiwa_event_loop_longest_lag_seconds", "How late any tick was since start.", hub.longest_lag_s)
        yield gauge("heiwa_memory_share", "Used of the memory limit.", self._housekeeping.memory_share)
        yield counter("heiwa_gc_pause_seconds", "Time in garbage collections.", self._housekeeping.gc_pauses_s)
        longest_s = self._housekeeping.longest_gc_pause_s
        yield gauge("heiwa_gc_longest_pause_seconds", "The longest garbage collection since start.", longest_s)


class ConnectionMetrics:
    """A collector over a door and its hub. Labels are bounded: reasons and codes, never a device or account."""

    def __init__(self, door: Door, housekeeping: Housekeeping) -> None:
        self._door = door
        self._hub = door.hub
        self._housekeeping = housekeeping

    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        yield gauge("heiwa_connections", "Sockets open now, from accept to end.", hub.admission.open)
        yield gauge(
            "heiwa_handshakes_pending", "Sockets that have not finished their handshake.", hub.admission.pending
        )
        yield gauge("heiwa_connections_maximum", "Most sockets this process takes.", hub.admission.maximum)
        yield counter("heiwa_connections_opened", "Websockets opened since start.", hub.opened)
        yield counter("heiwa_messages_received", "Whole messages received since start.", hub.messages_in)
        yield from ProcessMetrics(hub, self._housekeeping).collect()
        refused = CounterMetricFamily("heiwa_handshakes_refused", "Refused handshakes.", labels=["status", "reason"])
        for (status, reason), count in sorted(self._door.refusals.items()):
            refused.add_metric([str(status), reason], count)
        yield refused
        closed = CounterMetricFamily("heiwa_disconnects", "Ended websockets.", labels=["reason", "code", "fault"])
        for (reason, code, fault), count in sorted(self._disconnects().items()):
            closed.add_metric([reason, code, fault], count)
        yield closed

    def _disconnects(self) -> Counter[tuple[str, str, str]]:
        """A peer may close with any of 3,000 codes: those that are not in our table are counted as one."""
        counts: Counter[tuple[str, str, str]] = Counter()
        for (reason, code, fault), count in self._hub.disconnects.items():
            counts[reason, str(code) if code in CLOSE_CODES else "other", fault] += count
        return counts
