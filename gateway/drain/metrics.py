"""The drain as Prometheus sees it; built from plain counts when scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.drain.drainer import Drainer
from gateway.drain.health import TargetState
from gateway.drain.states import State
from gateway.drain.status import DrainStatus, status_of
from gateway.drain.target_health import TargetHealthWatch
from gateway.drain.weights_watch import WeightsWatch
from gateway.errors import CallErrorKind
from gateway.telemetry.metrics import counter, gauge


class DrainMetrics:
    """A collector. Seconds are of the drain's clock. `watch`, `weights` None: there is nothing to follow."""

    def __init__(self, drainer: Drainer, watch: TargetHealthWatch | None, weights: WeightsWatch | None = None) -> None:
        self._drainer = drainer
        self._watch = watch
        self._weights = weights

    def collect(self) -> Iterator[Metric]:
        status = status_of(self._drainer, self._watch)
        yield from self._drain(status)
        yield from self._signal(status)
        yield from self._shift()

    def _drain(self, status: DrainStatus) -> Iterator[Metric]:
        drainer, progress = self._drainer, status.progress
        states = GaugeMetricFamily("heiwa_drain_state", "1 for the state it is in.", labels=["state"])
        for state in State:
            states.add_metric([state.value], float(state == status.state))
        yield states
        # In a shift some stay.
        remaining = status.remaining if progress and status.state != State.SHIFTING else 0
        rate = progress.rate_target_per_s if progress else 0.0
        actual = progress.rate_actual_per_s if progress else 0
        left_s = progress.seconds_left if progress else 0.0
        yield gauge("heiwa_drain_connections_remaining", "To be sent away yet; 0 outside a drain.", remaining)
        yield gauge("heiwa_drain_rate_target", "Closes a second that the deadline asks for.", rate)
        yield gauge("heiwa_drain_rate_actual", "Closes in the last whole second.", actual)
        yield gauge("heiwa_drain_deadline_seconds", "Until the last is to be gone; 0 outside a drain.", left_s)
        closed = CounterMetricFamily("heiwa_drain_closed", "Websockets sent away.", labels=["cause"])
        for cause in ("drain", "shift", "shutdown"):
            closed.add_metric([cause], drainer.closed[cause])
        yield closed
        yield counter("heiwa_drain_overrun", "Closes above what the receivers take, forced.", drainer.overrun)
        yield counter(
            "heiwa_drain_leftover",
            "Websockets still open when the time after SIGTERM was over, and cut.",
            drainer.leftover,
        )
        yield counter("heiwa_drain_cancelled", "Drains that were taken back.", drainer.cancelled)

    def _shift(self) -> Iterator[Metric]:
        shift, weights = self._drainer.following.shift, self._weights
        up = weights is not None and weights.signal_up
        yield gauge("heiwa_shift_signal_up", "Whether the deployment of the service can be asked for.", up)
        errors = CounterMetricFamily("heiwa_shift_poll_errors", "Questions for it that failed.", labels=["class"])
        for kind in CallErrorKind:
            errors.add_metric([kind.value], weights.errors[kind] if weights is not None else 0)
        yield errors
        weight, budget, spent = (shift.weight, shift.budget, shift.spent) if shift is not None else (0.0, 0, 0)
        yield gauge("heiwa_shift_weight_ratio", "Of new connections, what the new revision gets; 0: no shift.", weight)
        yield gauge("heiwa_shift_budget_closes", "Closes that following the weights may cost; 0: no shift.", budget)
        yield gauge("heiwa_shift_spent_closes", "Closes of this deployment so far.", spent)

    def _signal(self, status: DrainStatus) -> Iterator[Metric]:
        watch = self._watch
        up = bool(status.signal_up)
        yield gauge("heiwa_drain_signal_up", "Whether the load balancer can be asked; 0 also where none is.", up)
        if status.poll_age_s is not None:
            yield gauge("heiwa_drain_poll_age_seconds", "Since the last poll that said something.", status.poll_age_s)
        errors = CounterMetricFamily("heiwa_drain_poll_errors", "Polls that failed.", labels=["class"])
        for kind in CallErrorKind:
            errors.add_metric([kind.value], watch.errors[kind] if watch is not None else 0)
        yield errors
        others = GaugeMetricFamily("heiwa_drain_peers", "Other targets of our groups.", labels=["state"])
        for state in TargetState:
            others.add_metric([state.value], status.peers.get(state.value, 0))
        yield others
        received = watch.received if watch is not None else 0
        yield counter("heiwa_drain_received_handshakes", "Websockets opened while any peer was draining.", received)
