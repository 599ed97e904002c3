"""The section `[deploy]` of a scenario: a rolling deploy behind a load balancer, and its faults."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.errors import SettingsError

Minutes = Annotated[float, Meta(ge=0, le=86_400)]
RoutingAlgorithm = Literal["fixed", "round_robin", "least_outstanding"]
Delay = Annotated[float, Meta(ge=0, le=3600)]


class FaultsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Times are simulated seconds from the moment when the old tasks of a wave are told to go."""

    receivers_late_s: Annotated[
        Delay, Meta(description="The new tasks pass their health check this much later; 0: before the old ones go.")
    ] = 0
    throttled_by: Annotated[
        int, Meta(ge=0, le=10_000, description="Other tasks of the account, each of which polls every five seconds.")
    ] = 0
    credentials: Annotated[
        Literal["", "before", "during"],
        Meta(description="The credentials expire before the old tasks go, or while they drain."),
    ] = ""
    endpoint: Annotated[
        Literal["", "before", "during"],
        Meta(description="The API is out of reach from before the old tasks go on, or from while they drain."),
    ] = ""
    reverse_at_s: Annotated[
        Delay, Meta(description="When the old tasks are registered again, to stay beside the new ones; 0: never.")
    ] = 0
    stall_at_s: Annotated[Delay, Meta(description="When the old gateways are stopped (SIGSTOP).")] = 0
    stall_s: Annotated[Delay, Meta(description="How long the old gateways are stopped; 0: never.")] = 0


class DeploySection(Struct, frozen=True, forbid_unknown_fields=True):
    """Times are simulated seconds, of which `speed` pass in a real one."""

    old: Annotated[int, Meta(ge=1, le=1000, description="Gateways to replace.")] = 2
    new: Annotated[int, Meta(ge=0, le=1000, description="New gateways; 0: as many as old ones.")] = 0
    waves: Annotated[
        int, Meta(ge=1, le=1000, description="Groups of gateways that are replaced one after the other.")
    ] = 1
    delay_s: Annotated[Delay, Meta(description="The target group's deregistration delay.")] = 300
    speed: Annotated[float, Meta(ge=1, le=1000, description="Simulated seconds that pass in a real one.")] = 10
    order: Annotated[
        Literal["rolling", "stop-task", "spot"],
        Meta(
            description="rolling: deregistered, the delay, SIGTERM; stop-task: SIGTERM while still registered, "
            "deregistered two seconds later; spot: SIGTERM, and it stays registered."
        ),
    ] = "rolling"
    routing: Annotated[
        RoutingAlgorithm, Meta(description="How the load balancer chooses the target of a new connection.")
    ] = "round_robin"
    balancer: Annotated[
        Literal["fleet", "haproxy"],
        Meta(
            description="fleet: the devices connect directly to where the load balancer would send them; haproxy: "
            "they connect through a real HAProxy on this machine, for up to 9,000 devices."
        ),
    ] = "fleet"
    strategy: Annotated[
        Literal["rolling", "canary", "linear", "blue-green"],
        Meta(description="How the deploy moves traffic: by waves, or by weights of two target groups."),
    ] = "rolling"
    percent: Annotated[
        float, Meta(gt=0, le=100, description="With canary: its weight; with linear: the weight of a step.")
    ] = 5
    step_bake_s: Annotated[Delay, Meta(description="With canary and linear: how long a step lasts.")] = 600
    bake_s: Annotated[Delay, Meta(description="By weights: from 100 % to the clean-up of the old tasks.")] = 600
    rollback_at_s: Annotated[
        Delay, Meta(description="By weights: the weights go back so long after the first step; 0: never.")
    ] = 0
    pause_at: Annotated[
        list[Literal["POST_SCALE_UP", "PRE_PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"]],
        Meta(description="By weights, at speed 1: the stages at which it waits for `heiwa deploy guard`, which runs."),
    ] = field(default_factory=list)
    guard_devices: Annotated[
        int, Meta(ge=1, description="With pause_at: devices that must be on the new revision for a minute.")
    ] = 20
    new_settings: Annotated[
        dict[str, str | int | float | bool],
        Meta(description='Settings of the new gateways only, as a bad revision has them: "section.key" = value.'),
    ] = field(default_factory=dict)
    follow: Annotated[bool, Meta(description="By weights: false: connections do not follow them.")] = True
    deferred: Annotated[
        bool, Meta(description="With rolling: the deployment is over before the old tasks are removed.")
    ] = False
    drain: Annotated[bool, Meta(description="false: the gateways do not know the load balancer.")] = True
    stop_timeout_s: Annotated[float, Meta(gt=10, le=120, description="From SIGTERM to SIGKILL (ECS stopTimeout).")] = 30
    health: Annotated[
        Literal["/livez", "/readyz"], Meta(description="The path of the target group's health check.")
    ] = "/livez"
    reuse_addresses: Annotated[
        bool, Meta(description="With stop-task: a new task gets the address of one that is still draining.")
    ] = False
    runtime: Annotated[
        Literal["process", "podman"],
        Meta(
            description="process: `heiwa serve` of this installation; podman: the image, in a container each (as root)."
        ),
    ] = "process"
    image: Annotated[str, Meta(min_length=1, description="With podman: the image; `make image` makes it.")] = "heiwa"
    memory_mib: Annotated[int, Meta(ge=64, le=65_536, description="With podman: the memory limit of a task.")] = 256
    before_s: Annotated[float, Meta(ge=0, le=86_400, description="Time before the first wave.")] = 30
    after_s: Annotated[float, Meta(ge=0, le=86_400, description="Time after the last wave.")] = 60
    faults: Annotated[FaultsSection, Meta(description="Faults of the deploy.")] = field(default_factory=FaultsSection)

    @property
    def replacing(self) -> int:
        """The number of new gateways."""
        return self.new or self.old

    def check(self, origin: str) -> None:
        """Raises SettingsError when fields do not fit each other."""
        if self.strategy != "rolling":
            self._check_weights(origin)
        if self.waves > min(self.old, self.replacing):
            raise SettingsError("deploy.waves", f"{self.waves} waves need as many gateways (set in {origin})")
        if self.balancer == "haproxy" and self.routing == "fixed":
            raise SettingsError("deploy.routing", f"HAProxy does not know which device is which (set in {origin})")
        if self.reuse_addresses and (self.order != "stop-task" or self.new not in (0, self.old)):
            raise SettingsError("deploy.reuse_addresses", f"needs order stop-task and as many new ones ({origin})")
        if self.faults.reverse_at_s and (self.order != "rolling" or self.faults.reverse_at_s >= self.delay_s):
            raise SettingsError(
                "deploy.faults.reverse_at_s", f"needs order rolling and must come before the delay is over ({origin})"
            )

    def _check_weights(self, origin: str) -> None:
        if self.balancer != "fleet":
            raise SettingsError("deploy.balancer", f"weights are for the balancer fleet (set in {origin})")
        if self.pause_at and self.speed != 1:
            raise SettingsError("deploy.pause_at", f"the guard counts real minutes: needs speed 1 (set in {origin})")
        if self.waves > 1 or self.order != "rolling" or self.reuse_addresses or self.deferred:
            text = f"{self.strategy} has no waves, and no other order than rolling (set in {origin})"
            raise SettingsError("deploy.strategy", text)

    def by_weights_s(self) -> float:
        """About how long the weights of a strategy take, simulated seconds."""
        before = {"canary": 1, "linear": math.ceil(100 / self.percent) - 1}.get(self.strategy, 0)
        return 0 if self.strategy == "rolling" else before * (self.step_bake_s + 10) + self.bake_s + 30

    def expected_s(self) -> float:
        """About how long the measured time takes, real seconds."""
        wave_s = self.delay_s + 20 if self.order == "rolling" else self.stop_timeout_s
        return (
            self.before_s + self.by_weights_s() + self.waves * (wave_s + 20) + self.after_s
        ) / self.speed + 3 * self.replacing


def max_held(deploy: DeploySection, devices: int) -> int:
    """The maximum number of connections that one gateway will hold.

    In waves the last old gateways and the first new ones hold far more than the average, because devices that were sent
    away also go to gateways that are still to be replaced.
    """
    old = [devices / deploy.old] * deploy.old
    new: list[float] = []
    highest = max(old)
    for wave in range(deploy.waves):
        coming = range(deploy.replacing)[part(deploy.replacing, deploy.waves, wave)]
        new += [0.0] * len(coming)
        leaving = part(deploy.old, deploy.waves, wave)
        moved, rest = sum(old[leaving]), old[leaving.stop :]
        staying = [*rest, *new]
        spread = _emptiest if deploy.routing == "least_outstanding" else _evenly
        staying = spread(staying, moved)
        old[leaving.stop :], new = staying[: len(rest)], staying[len(rest) :]
        highest = max([highest, *staying])
    return math.ceil(highest)


def _evenly(held: list[float], moved: float) -> list[float]:
    return [count + moved / len(held) for count in held]


def _emptiest(held: list[float], moved: float) -> list[float]:
    """Fill the emptiest gateways up to a common level."""
    level, ordered = 0.0, sorted(held)
    for count in range(1, len(ordered) + 1):
        level = (sum(ordered[:count]) + moved) / count
        if count == len(ordered) or level <= ordered[count]:
            break
    return [max(level, count) for count in held]


def part(count: int, waves: int, wave: int) -> slice:
    """The gateways, of `count`, that belong to wave `wave`, counted from 0: the waves are as even as possible."""
    return slice(count * wave // waves, count * (wave + 1) // waves)
