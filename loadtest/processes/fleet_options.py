"""Which field of a scenario becomes which option of a fleet process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.fleet.options import FleetOptions
from loadtest.processes.slices import FleetSlice
from loadtest.scenario.behaviour import DeviceBehaviour
from loadtest.scenario.scenario import Scenario, arrival

# A device that is not connected at its recorded moment keeps what it would have sent, however much that is.
RECORDED_STORE = 1_000_000


class CommonOptions(NamedTuple):
    """What all fleet processes of a run have in common. `local`: all targets are on this machine's loopback."""

    urls: Sequence[str]
    secret: str
    seed: int
    run: str
    local: bool
    start_at_ms: int


def fleet_options(scenario: Scenario, part: FleetSlice, common: CommonOptions, acked_file: str) -> FleetOptions:
    """The options of one fleet process; its rates are those of the fleet times its fraction of the devices."""
    fraction = part.devices / scenario.fleet.devices
    return FleetOptions(
        **{name: getattr(scenario.fleet, name) for name in DeviceBehaviour.__struct_fields__},
        process=part.name,
        first=part.first,
        devices=part.devices,
        urls=list(common.urls),
        sources=part.sources if common.local else [],
        secret=common.secret,
        seed=common.seed,
        run=common.run,
        start_at_ms=common.start_at_ms,
        connect=arrival(scenario.connect, fraction),
        connects_at_a_time=scenario.connect.at_a_time,
        events=arrival(scenario.events, fraction),
        sample_period_s=scenario.run.sample_period_s,
        acked_file=acked_file,
        scope=" ".join(_scopes(scenario)),
        commands_per_s=scenario.commands.rate_per_s * fraction,
        command_deadline_s=scenario.commands.deadline_s,
        **_of_replay_or_deploy(scenario),
    )


def _scopes(scenario: Scenario) -> list[str]:
    """What the devices do needs these."""
    scopes = ["location:write"]
    if scenario.commands.rate_per_s:
        scopes += ["command:send", "command:receive"]
    return [*scopes, "location:read"] if scenario.fleet.watchers else scopes


def _of_replay_or_deploy(scenario: Scenario) -> dict[str, Any]:
    replay, deploy = scenario.replay, scenario.deploy
    options: dict[str, Any] = {}
    if replay.file:
        options |= {"replay": str(Path(replay.file).absolute()), "speed": replay.speed, "store": RECORDED_STORE}
    if deploy is not None:
        options |= {"routing": deploy.routing, "speed": deploy.speed}
    return options
