"""The Guarded port on Amazon ECS and CloudWatch.

Amazon ECS API reference: DescribeServices, DescribeServiceDeployments (`lifecycleHookDetails[]` with `hookId`,
`targetType` PAUSE and `status` AWAITING_ACTION), DescribeServiceRevisions, ContinueServiceDeployment. CloudWatch API
reference: GetMetricData, of the metrics that `gateway.telemetry.emf` writes, by their dimension `revision`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.adapters.aws.clients import PATIENT_TIMEOUT_S, AwsClients
from gateway.adapters.aws.ecs_deployments import OVER, of, revision_of
from gateway.drain.deployment import Revision
from gateway.drain.guard import Action, Pause, Readings
from gateway.drain.ports import GuardedState
from gateway.errors import CallError, CallErrorKind
from gateway.telemetry.names import ACK_P99, GATEWAY, NAMESPACE

WAITS = "AWAITING_ACTION"
SUCCESSFUL, STOPPED = "SUCCESSFUL", "STOPPED"
# A task writes a line a minute, and CloudWatch needs a moment to make metrics of it.
LATE_S = 90.0
_MINUTE_S = 60
# By names that also name the queries: the metric, and how CloudWatch joins what tasks told.
_METRICS = {
    "devices": ("heiwa_connections", "Sum"),
    "ack_p99_s": (ACK_P99, "Maximum"),
    "our_fault": ("heiwa_disconnects_our_fault", "Sum"),
    "refused": ("heiwa_handshakes_refused", "Sum"),
    "closed": ("heiwa_disconnects", "Sum"),
    "planned": ("heiwa_disconnects_planned", "Sum"),
    "acked": ("heiwa_locations_acknowledged", "Sum"),
    "events_refused": ("heiwa_locations_refused", "Sum"),
    "opened": ("heiwa_connections_opened", "Sum"),
}
# One is enough for an hour of these metrics.
_MAX_PAGES = 10


class EcsGuarded:
    """`service` is its name or ARN; `metrics_service` is `telemetry.service` of its gateways."""

    def __init__(
        self,
        environment: Mapping[str, str],
        cluster: str,
        service: str,
        metrics_service: str,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        self._clients = AwsClients(environment, PATIENT_TIMEOUT_S)
        self._cluster = cluster
        self._service = service
        self._metrics_service = metrics_service
        self._time_s = time_s
        self._current = ""
        self._missed = False
        self._revisions: dict[str, Revision] = {}

    async def state(self) -> GuardedState:
        """See the port."""
        if not self._current or self._missed:
            self._current = await self._find() or self._current
        if not self._current:
            return GuardedState(goes_on=False)
        answer = await self._ecs("describe_service_deployments", serviceDeploymentArns=[self._current])
        record: Mapping[str, Any] = next(iter(answer.get("serviceDeployments", ())), {})
        self._missed = not record
        if not record:
            # An old copy may not know it yet, or the service has another one.
            raise CallError(CallErrorKind.OTHER, "Amazon ECS knows no such service deployment")
        if record.get("status") in OVER:
            ended, self._current = self._current, ""
            if record.get("status") == STOPPED and (later := await self._find()) not in ("", ended):
                # Another one took its place, while the service still named the first.
                self._current = later
                return GuardedState(goes_on=True)
            return GuardedState(goes_on=False, outcome=record.get("status") == SUCCESSFUL)
        return GuardedState(goes_on=True, pause=await self._pause(record))

    async def _find(self) -> str:
        """The deployment that goes on; "": there is none. Raises CallError."""
        answer = await self._ecs("describe_services", cluster=self._cluster, services=[self._service])
        service: Mapping[str, Any] = next(iter(answer.get("services", ())), {})
        if not service:
            raise CallError(CallErrorKind.NOT_FOUND, f"Amazon ECS knows no service {self._service} in {self._cluster}")
        return str(service.get("currentServiceDeployment", ""))

    async def readings(self, revision: str, minutes: int) -> Readings:
        """See the port."""
        end_s = (self._time_s() - LATE_S) // _MINUTE_S * _MINUTE_S
        found = await self._values(
            MetricDataQueries=[self._query(name, revision) for name in _METRICS],
            StartTime=datetime.fromtimestamp(end_s - minutes * _MINUTE_S, UTC),
            EndTime=datetime.fromtimestamp(end_s, UTC),
            ScanBy="TimestampAscending",
        )
        sums = {name: float(sum(values)) for name, values in found.items()}
        return Readings(
            devices=found.get("devices", ()),
            ack_p99_s=found.get("ack_p99_s", ()),
            our_fault=sums.get("our_fault", 0.0),
            refused=sums.get("refused", 0.0),
            # The old revision sends its devices away meanwhile; that says nothing of either.
            closed=max(0.0, sums.get("closed", 0.0) - sums.get("planned", 0.0)),
            acked=sums.get("acked", 0.0),
            events_refused=sums.get("events_refused", 0.0),
            opened=sums.get("opened", 0.0),
        )

    async def _values(self, **question: Any) -> dict[str, tuple[float, ...]]:
        """By query, all values. Raises CallError: some are missing, which would look like a good revision."""
        found: dict[str, tuple[float, ...]] = dict.fromkeys(_METRICS, ())
        status = dict.fromkeys(_METRICS, "")
        pages = 0
        while True:
            answer = await self._clients.call("cloudwatch", "get_metric_data", self._service, **question)
            for one in answer.get("MetricDataResults", ()):
                name = one.get("Id", "")
                found[name] = (*found.get(name, ()), *one.get("Values", ()))
                status[name] = one.get("StatusCode", "")
            question["NextToken"] = answer.get("NextToken")
            pages += 1
            if not question["NextToken"] or pages == _MAX_PAGES:
                break
        missing = {name: code for name, code in status.items() if code != "Complete"}
        if missing or question["NextToken"]:
            said = ", ".join(
                f"{_METRICS[name][0]} {code or 'missing'}" for name, code in missing.items() if name in _METRICS
            )
            raise CallError(
                CallErrorKind.OTHER, f"Amazon CloudWatch did not tell all figures: {said or 'too many pages'}"
            )
        return found

    async def resume(self, pause: Pause, action: Action) -> bool:
        """See the port. An error of ours is told apart from a hook that waits no more by asking again."""
        try:
            await self._ecs(
                "continue_service_deployment",
                serviceDeploymentArn=pause.deployment,
                hookId=pause.hook,
                action=action.value,
            )
        except CallError as error:
            if error.kind in (CallErrorKind.DENIED, CallErrorKind.EXPIRED):
                raise
            state = await self.state()
            if state.pause is not None and state.pause.hook == pause.hook:
                raise
            return False
        return True

    async def close(self) -> None:
        """See the port."""
        await self._clients.close()

    async def _ecs(self, operation: str, **parameters: Any) -> Any:
        return await self._clients.call("ecs", operation, self._service, **parameters)

    async def _pause(self, record: Mapping[str, Any]) -> Pause | None:
        waiting = [
            one
            for one in record.get("lifecycleHookDetails", ())
            if one.get("status") == WAITS and one.get("targetType", "PAUSE") == "PAUSE"
        ]
        if not waiting:
            return None
        seen = of(record, await self._described(record))
        # Of several sources, the one that serves most.
        new, old = seen.target, max(seen.sources, key=_serves, default=Revision(""))
        return Pause(
            deployment=seen.id,
            hook=str(waiting[0].get("hookId", "")),
            stage=seen.stage,
            weight=seen.weight,
            new=_named(new),
            old=_named(old),
            first=not seen.sources,
            ends=_end(waiting[0]),
        )

    async def _described(self, record: Mapping[str, Any]) -> Mapping[str, Revision]:
        summaries = [record.get("targetServiceRevision", {}), *record.get("sourceServiceRevisions", ())]
        arns = [one["arn"] for one in summaries if one.get("arn")]
        if set(arns) - set(self._revisions):
            answer = await self._ecs("describe_service_revisions", serviceRevisionArns=arns)
            records = answer.get("serviceRevisions", ())
            self._revisions = {one["serviceRevisionArn"]: revision_of(one) for one in records}
        return self._revisions

    def _query(self, name: str, revision: str) -> dict[str, Any]:
        metric, stat = _METRICS[name]
        dimensions = {"service": self._metrics_service, "role": GATEWAY, "revision": revision}
        return {
            "Id": name,
            "MetricStat": {
                "Metric": {
                    "Namespace": NAMESPACE,
                    "MetricName": metric,
                    "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                },
                "Period": _MINUTE_S,
                "Stat": stat,
            },
        }


def _serves(revision: Revision) -> tuple[int, float]:
    return revision.tasks or 0, revision.weight or 0.0


def _end(hook: Mapping[str, Any]) -> str:
    """LifecycleHookDetail: `timeoutAction` is taken at `expiresAt`."""
    at = hook.get("expiresAt")
    return (
        f"{hook.get('timeoutAction', 'ROLLBACK')} at {at.astimezone(UTC):%H:%M} UTC" if isinstance(at, datetime) else ""
    )


def _named(revision: Revision) -> str:
    """As `gateway.app.parts.emf_reporter` names it: the number of its task definition."""
    found = re.search(r":([0-9]+)$", revision.definition)
    return found[1] if found else ""
