"""The way to other gateways as Prometheus sees it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from gateway.channels.announcing import Announcer
from gateway.channels.peers import Peers
from gateway.telemetry.metrics import counter, gauge


class PeerMetrics:
    """A collector. It is there only where a broker is set."""

    def __init__(self, peers: Peers, announcer: Announcer) -> None:
        self._peers = peers
        self._announcer = announcer

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        up = int(not self._peers.problem)
        yield gauge("heiwa_broker_up", "0: other gateways cannot be reached: alarm.", up)
        yield counter("heiwa_broker_returns", "How often the way to other gateways was opened.", self._peers.returns)
        yield counter(
            "heiwa_broker_dropped", "Envelopes that could not be read, answered or served.", self._peers.dropped
        )
        due = self._announcer.due
        yield gauge("heiwa_directory_due", "Devices that came or left and are not in the directory yet.", due)
