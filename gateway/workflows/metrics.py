"""What Prometheus gets of a manager and a rebalancer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric

from gateway.telemetry.metrics import counter, gauge
from gateway.workflows.definition import RUNNERS, WORKFLOW
from gateway.workflows.figures import BATCH_RUNS, LATE_S, BalanceFigures, ManagerFigures
from gateway.workflows.states import AttemptStatus


class WorkflowMetrics:
    """A collector. All is 0 in a process that has no such role."""

    def __init__(self, manager: ManagerFigures, balance: BalanceFigures) -> None:
        self._manager = manager
        self._balance = balance

    def collect(self) -> Iterator[Metric]:
        yield from self._of_manager(self._manager)
        yield from self._of_rebalancer(self._balance)

    @staticmethod
    def _of_manager(found: ManagerFigures) -> Iterator[Metric]:
        yield gauge("heiwa_workflow_runs", "Runs that this manager has and that are not over.", found.runs)
        yield gauge("heiwa_workflow_runs_waiting", "Those of them that wait for a time.", found.waiting)
        yield counter("heiwa_workflow_changes", "Changes of runs that were stored.", found.stored)
        yield counter(
            "heiwa_workflow_transitions", "Events of runs that were stored, but for progress.", found.transitions
        )
        ended = CounterMetricFamily("heiwa_workflow_runs_ended", "Runs that are over.", labels=["status"])
        for status, count in found.ended.items():
            ended.add_metric([status], count)
        yield ended
        attempts = CounterMetricFamily(
            "heiwa_workflow_attempts", "Attempts that are over, by runner and outcome.", labels=["runner", "outcome"]
        )
        for runner in (*RUNNERS, WORKFLOW):
            for outcome in (AttemptStatus.OK, AttemptStatus.FAILED, AttemptStatus.LOST):
                attempts.add_metric([runner, outcome], found.attempts[runner, outcome.value])
        yield attempts
        batches = list(zip([*map(str, BATCH_RUNS), "+Inf"], map(float, accumulate(found.batches)), strict=True))
        yield HistogramMetricFamily(
            "heiwa_workflow_commit_runs", "Runs that one transaction changed.", buckets=batches, sum_value=found.stored
        )
        late = list(zip([*map(str, LATE_S), "+Inf"], map(float, accumulate(found.late)), strict=True))
        yield HistogramMetricFamily(
            "heiwa_workflow_timer_late_seconds",
            "How late a run was looked at whose time had come.",
            buckets=late,
            sum_value=found.late_s,
        )
        yield counter("heiwa_workflow_slow_calls", "Calls of advance that took more than 50 ms.", found.slow_calls)
        yield counter("heiwa_workflow_loop_stood", "Those that held the loop up for more than 0.2 s.", found.stood)
        yield counter(
            "heiwa_workflow_hogs",
            "Times that a run took too much of the loop's time while others waited.",
            found.hogs,
        )
        yield counter("heiwa_workflow_runs_claimed", "Runs taken that no manager had.", found.claimed)
        yield counter("heiwa_workflow_runs_let_go", "Runs that left for another manager.", found.let_go)
        yield counter("heiwa_workflow_runs_lost", "Changes not stored, for somebody else has the run.", found.lost)

    @staticmethod
    def _of_rebalancer(found: BalanceFigures) -> Iterator[Metric]:
        yield gauge("heiwa_rebalancer_leads", "1 for the rebalancer that is active.", float(found.leading))
        yield gauge("heiwa_rebalancer_managers", "Managers at its last look.", found.managers)
        yield gauge("heiwa_rebalancer_suspects", "Those that gave no sign of life for half a lease.", found.suspects)
        dead = CounterMetricFamily("heiwa_rebalancer_takeovers", "Managers taken over for.", labels=["cause"])
        for cause, count in found.dead.items():
            dead.add_metric([cause], count)
        yield dead
        moves = CounterMetricFamily("heiwa_rebalancer_moves", "Runs that were told to move.", labels=["cause"])
        for cause, count in found.moves.items():
            moves.add_metric([cause], count)
        yield moves
        yield counter("heiwa_rebalancer_forced", "Times that runs were taken from who did not let go.", found.forced)
        yield counter("heiwa_rebalancer_reserved", "Times that a manager got a run for itself.", found.reserved)
