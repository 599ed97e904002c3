"""The target groups of an Elastic Load Balancing stand-in: states, delays, and the throttle of the account; no sockets.

Elastic Load Balancing API reference (version 2015-12-01): RegisterTargets, DeregisterTargets, DescribeTargetHealth,
TargetHealth, TargetGroupAttribute. All times are *simulated* seconds, so that one factor scales everything.

Where AWS does not document the behaviour, the stand-in behaves like this:

- Id and port identify a target in a group. Registering a target that still drains cancels its deregistration: it is
  `initial` again and its delay is forgotten. So a new task on a reused address reads the `draining` of its predecessor
  until it is registered itself, and `initial` from then on.
- A changed delay applies to deregistrations that begin later.
- A health check result of a target that drains or is not registered is ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from gateway.drain.health import TargetState
from loadtest.cloud.place import ACCOUNT, REGION

DEFAULT_DELAY_S = 300.0
MAX_DELAY_S = 3600.0
# How long the reason of `initial` is Elb.RegistrationInProgress, before Elb.InitialHealthChecking.
REGISTRATION_S = 2.0
# Elastic Load Balancing user guide, "API throttling": all non-mutating actions of an account and region share a bucket.
BUCKET_TOKENS = 40.0
REFILL_PER_S = 10.0

NOT_REGISTERED = ("Target.NotRegistered", "Target is not registered to the target group")
NOT_IN_USE = ("Target.NotInUse", "Target group is not configured to receive traffic from the load balancer")
DRAINING = ("Target.DeregistrationInProgress", "Target deregistration is in progress")
REGISTERING = ("Elb.RegistrationInProgress", "Target registration is in progress")
CHECKING = ("Elb.InitialHealthChecking", "Initial health checks in progress")
FAILED = ("Target.FailedHealthChecks", "Health checks failed")
REASONS = {TargetState.DRAINING: DRAINING, TargetState.UNHEALTHY: FAILED, TargetState.INITIAL: CHECKING}

TargetAddress = tuple[str, int]


class ElbError(Exception):
    """An answer that is an error: `code` and `status` (HTTP) as AWS sends them."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class TargetHealthDescription:
    """One line of DescribeTargetHealth. `reason` and `description` are "" where AWS leaves them out."""

    id: str
    port: int
    state: TargetState
    since_s: float
    reason: str = ""
    description: str = ""
    gone_s: float | None = None


@dataclass(slots=True)
class Group:
    """A target group. `in_use`: a load balancer's rule forwards to it. `termination`: the attribute of that name
    (Network Load Balancer). `zonal_shift`: answers say that one is active; it changes no state."""

    arn: str
    name: str
    protocol: str
    delay_s: float
    in_use: bool = True
    termination: bool = False
    zonal_shift: bool = False
    health_path: str = "/livez"
    algorithm: str = "round_robin"
    stickiness: bool = False
    idle_timeout_s: float = 60.0
    targets: dict[TargetAddress, TargetHealthDescription] = field(default_factory=dict)

    @property
    def network(self) -> bool:
        """A Network Load Balancer's."""
        return self.protocol in ("TCP", "TLS", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC")


class Bucket:
    """A throttle: `tokens` at once, `refill_per_s` in the long run."""

    def __init__(self, now_s: float, tokens: float = BUCKET_TOKENS, refill_per_s: float = REFILL_PER_S) -> None:
        self._most = self._tokens = tokens
        self._refill_per_s = refill_per_s
        self._last_s = now_s

    def take(self, now_s: float) -> bool:
        """Take a token; False: there is none. A clock that goes back adds nothing."""
        gained = max(0.0, now_s - self._last_s) * self._refill_per_s
        self._last_s = max(now_s, self._last_s)
        self._tokens = min(self._most, self._tokens + gained)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Elbv2:
    """All target groups of one account and region.

    The calls of the driver of a deploy (`register` … `states`) cost nothing. Those that stand for API calls of a poller
    (`describe_*`) take a token of the bucket each, and raise ElbError when none is left; `calls` counts them, including
    throttled ones.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._groups: dict[str, Group] = {}
        self._bucket = Bucket(now_s())
        self.unknown_is_error = False
        self.calls = 0
        self.throttled = 0

    # For the driver of a deploy

    def add_group(self, name: str, delay_s: float = DEFAULT_DELAY_S, protocol: str = "HTTP") -> str:
        """Make a target group; returns its ARN. Raises ValueError for a delay out of range or a name in use."""
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        arn = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/{name}/{digest}"
        if arn in self._groups:
            raise ValueError(f"a target group {name} exists")
        self._groups[arn] = Group(arn, name, protocol, _checked(delay_s))
        return arn

    def group(self, arn: str) -> Group:
        """The group as it is now. Raises ElbError TargetGroupNotFound."""
        try:
            group = self._groups[arn]
        except KeyError:
            raise ElbError("TargetGroupNotFound", f"One or more target groups not found: {arn}") from None
        now_s = self._now_s()
        for address, target in list(group.targets.items()):
            if target.gone_s is not None and now_s >= target.gone_s:
                del group.targets[address]
        return group

    def set_delay(self, arn: str, delay_s: float) -> None:
        """Change the deregistration delay: 0 to 3600 s, else ValueError."""
        self.group(arn).delay_s = _checked(delay_s)

    def register(self, arn: str, id: str, port: int) -> None:
        """`initial`, also for a target that drains; nothing for one that is registered."""
        group = self.group(arn)
        found = group.targets.get((id, port))
        if found is None or found.state is TargetState.DRAINING:
            group.targets[(id, port)] = TargetHealthDescription(
                id, port, TargetState.INITIAL, self._now_s(), *REGISTERING
            )

    def set_health(self, arn: str, id: str, port: int, healthy: bool) -> None:
        """The result of a health check."""
        group = self.group(arn)
        found = group.targets.get((id, port))
        if found is None or found.state is TargetState.DRAINING:
            return
        state = TargetState.HEALTHY if healthy else TargetState.UNHEALTHY
        if found.state is not state:
            self.set_state(arn, id, port, state)

    def set_state(self, arn: str, id: str, port: int, state: TargetState, reason: str = "") -> None:
        """Force a state of a registered target that no health check leads to, such as `unavailable`."""
        group = self.group(arn)
        text = (reason, "") if reason else REASONS.get(state, ("", ""))
        group.targets[(id, port)] = TargetHealthDescription(id, port, state, self._now_s(), *text)

    def deregister(self, arn: str, id: str, port: int) -> None:
        """`draining` for the delay, then gone; at once with a delay of 0. Nothing for one that is not registered.

        "If the specified target does not exist, the action returns successfully." A second call does not begin the
        delay anew.
        """
        group = self.group(arn)
        found = group.targets.get((id, port))
        if found is None or found.state is TargetState.DRAINING:
            return
        if group.delay_s == 0:
            del group.targets[(id, port)]
            return
        now_s = self._now_s()
        gone_s = now_s + group.delay_s
        group.targets[(id, port)] = TargetHealthDescription(
            id, port, TargetState.DRAINING, now_s, *DRAINING, gone_s=gone_s
        )

    def states(self, arn: str) -> dict[TargetAddress, TargetState]:
        """The state of every target that is registered or drains."""
        return {address: target.state for address, target in self.group(arn).targets.items()}

    def draining_since(self, arn: str, id: str, port: int) -> float | None:
        """When the target's deregistration began; None when it does not drain."""
        found = self.group(arn).targets.get((id, port))
        return found.since_s if found is not None and found.state is TargetState.DRAINING else None

    # For pollers

    def describe_target_health(self, arn: str, only: Iterable[TargetAddress] = ()) -> list[TargetHealthDescription]:
        """All targets, or `only` these; one that is not registered is `unused`, or InvalidTarget (`unknown_is_error`).

        Raises ElbError.
        """
        self._call()
        group = self.group(arn)
        wanted = list(only)
        if not wanted:
            return [self._shown(group, target) for target in group.targets.values()]
        return [self._one(group, address) for address in wanted]

    def describe_attributes(self, arn: str) -> Group:
        """The group, for its attributes. Raises ElbError."""
        self._call()
        return self.group(arn)

    def describe_groups(self, arns: Iterable[str] = ()) -> list[Group]:
        """These groups, or all. Raises ElbError."""
        self._call()
        return [self.group(arn) for arn in list(arns) or self._groups]

    def _call(self) -> None:
        self.calls += 1
        if not self._bucket.take(self._now_s()):
            self.throttled += 1
            raise ElbError("Throttling", "Rate exceeded")

    def _one(self, group: Group, address: TargetAddress) -> TargetHealthDescription:
        found = group.targets.get(address)
        if found is not None:
            return self._shown(group, found)
        if self.unknown_is_error:
            raise ElbError("InvalidTarget", f"The following targets are not registered: '{address[0]}:{address[1]}'")
        return TargetHealthDescription(*address, TargetState.UNUSED, 0.0, *NOT_REGISTERED)

    def _shown(self, group: Group, target: TargetHealthDescription) -> TargetHealthDescription:
        if not group.in_use and target.state is not TargetState.DRAINING:
            return replace(target, state=TargetState.UNUSED, reason=NOT_IN_USE[0], description=NOT_IN_USE[1])
        if target.reason == REGISTERING[0] and self._now_s() - target.since_s >= REGISTRATION_S:
            return replace(target, reason=CHECKING[0], description=CHECKING[1])
        return target


def _checked(delay_s: float) -> float:
    if not 0 <= delay_s <= MAX_DELAY_S:
        raise ValueError(f"a deregistration delay is 0 to {MAX_DELAY_S:.0f} s, not {delay_s:g}")
    return delay_s
