"""The TargetHealth port on Elastic Load Balancing, and on Amazon ECS for the own place in it.

Elastic Load Balancing API reference (version 2015-12-01): DescribeTargetHealth, DescribeTargetGroupAttributes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.adapters.aws import ecs_metadata
from gateway.adapters.aws.clients import CALL_TIMEOUT_S, PATIENT_TIMEOUT_S, AwsClients
from gateway.adapters.aws.ecs import EcsService
from gateway.drain.health import GroupAttributes, GroupHealth, Membership, TargetState, place
from gateway.errors import CallError, CallErrorKind

NOT_REGISTERED = "Target.NotRegistered"
INVALID_TARGET = "InvalidTarget"
DELAY_KEY = "deregistration_delay.timeout_seconds"
# "Supported only by Network Load Balancers": that it is there at all tells what kind of group this is.
TERMINATION_KEY = "deregistration_delay.connection_termination.enabled"


def to_be_watched(groups: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether there is a load balancer to ask; if not, no SDK need be loaded."""
    return bool(groups) or ecs_metadata.present(environment)


def health_of(answer: Mapping[str, Any], target: str, port: int, also: Iterable[str] = ()) -> GroupHealth:
    """An answer of DescribeTargetHealth. Only the state counts: zonal shifts and anomalies are other fields."""
    targets: dict[str, TargetState] = {}
    for line in answer.get("TargetHealthDescriptions", ()):
        said = line.get("TargetHealth", {})
        state = _state(str(said.get("State", "")))
        if state is TargetState.UNUSED and said.get("Reason") == NOT_REGISTERED:
            continue
        key = place(str(line["Target"]["Id"]), line["Target"].get("Port", 0))
        # Should an address that drains be listed again as a new target, the new one counts.
        if key not in targets or targets[key] is TargetState.DRAINING:
            targets[key] = state
    own = (targets.get(place(address, port)) for address in (target, *also))
    return GroupHealth(next((state for state in own if state is not None), None), targets)


def attributes_of(answer: Mapping[str, Any]) -> GroupAttributes:
    """An answer of DescribeTargetGroupAttributes. Raises CallError for a delay that is not a number."""
    values = {one.get("Key", ""): one.get("Value", "") for one in answer.get("Attributes", ())}
    delay = values.get(DELAY_KEY)
    try:
        delay_s = GroupAttributes().delay_s if delay is None else float(delay)
    except ValueError as error:
        raise CallError(CallErrorKind.OTHER, f"{DELAY_KEY} is not a number") from error
    return GroupAttributes(delay_s, TERMINATION_KEY in values, values.get(TERMINATION_KEY) == "true")


def _state(text: str) -> TargetState:
    try:
        return TargetState(text)
    except ValueError:
        # A state that Elastic Load Balancing did not have in 2015-12-01 must not begin a drain.
        return TargetState.UNAVAILABLE


class ElbTargetHealth:
    """The TargetHealth port."""

    def __init__(
        self,
        groups: Sequence[str] = (),
        target: str = "",
        port: int = 0,
        *,
        environment: Mapping[str, str] = os.environ,
        call_timeout_s: float = CALL_TIMEOUT_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`groups`: ARNs; none: those of the ECS service. `target` (address or instance id) with `port`: the own ones,
        else the ECS task's; a `port` alone is the container's, should the service name none. Opens nothing yet."""
        self._groups = tuple(groups)
        self._target = target
        self._port = port
        self._environment = environment
        self._clients = AwsClients(environment, call_timeout_s, monotonic_s)
        self._service = EcsService(self._clients, environment, self._groups, port)
        # Of who does not know yet where it stands: there is nothing else to ask meanwhile.
        self._patient = AwsClients(environment, PATIENT_TIMEOUT_S, monotonic_s)
        self._first = EcsService(self._patient, environment, self._groups, port)
        self._found = False

    async def membership(self) -> Membership:
        """See the port. Up to six requests on ECS, none when `target` was given."""
        if self._target:
            return Membership(self._target, dict.fromkeys(self._groups, self._port))
        if not ecs_metadata.present(self._environment):
            raise CallError(
                CallErrorKind.OTHER, "this is not an ECS task: set drain.target to the registered host:port"
            )
        if self._found:
            return await self._service.membership()
        membership = await self._first.membership()
        self._found = True
        await self._patient.close()
        return membership

    async def attributes(self, group: str) -> GroupAttributes:
        """See the port."""
        return attributes_of(
            await self._clients.call("elbv2", "describe_target_group_attributes", group, TargetGroupArn=group)
        )

    async def health(self, group: str, target: str, port: int, also: Sequence[str] = ()) -> GroupHealth:
        """See the port. Unfiltered: one call also shows which other targets drain, and which can receive."""
        answer = await self._clients.call(
            "elbv2", "describe_target_health", group, absent=INVALID_TARGET, TargetGroupArn=group
        )
        # InvalidTarget: none of what was asked for is registered.
        return GroupHealth(None) if answer is None else health_of(answer, target, port, also)

    async def close(self) -> None:
        """See the port."""
        await self._patient.close()
        await self._clients.close()
