"""Whether a machine can hold a run: open files, memory, reconnects a second; and how long the run will take."""

from __future__ import annotations

import math

from gateway.errors import SettingsError
from loadtest.scenario.deploy import max_held
from loadtest.scenario.scenario import Scenario

# Files of a process besides its devices: standard streams, loop, stores, logs.
FILE_RESERVE = 256
# Both ends of each websocket, when gateways and fleet share the machine.
FILES_A_CONNECTION = 2
# About what is needed, rounded up: 4 KB of Linux's memory a socket, 2 KB of each process a connection, bare processes.
BYTES_AN_END = 6_000
BYTES_A_PROCESS = 50_000_000
RECONNECTS_A_CORE_S = 200.0


def check_files(scenario: Scenario, devices: int, count: int, limit: int, system_free: int) -> None:
    """Check `limit`, the open files of a process, and `system_free`, what is left of the system's file table.

    Raises SettingsError saying what to change.
    """
    own = count > 0
    each = min(scenario.fleet.devices_each, devices)
    if each + FILE_RESERVE > limit:
        raise SettingsError(
            "fleet.devices_each",
            f"{each} devices in one process do not fit its limit of {limit} open files; raise the limit (ulimit -Hn) "
            f"or use --set fleet.devices_each={max(1, limit - FILE_RESERVE)}",
        )
    held = 0 if not own else -(-devices // count) if scenario.deploy is None else max_held(scenario.deploy, devices)
    if held + FILE_RESERVE > limit:
        raise SettingsError(
            "--gateways",
            f"{devices} devices on {count} gateways ({held} on one of them) do not fit their limit of {limit} open "
            f"files each; use at least --gateways {-(-devices // max(1, limit - FILE_RESERVE))}",
        )
    needed = devices * (FILES_A_CONNECTION if own else 1)
    if needed > system_free:
        raise SettingsError(
            "--devices",
            f"{devices} devices need {needed} files and the system has {system_free} left; raise fs.file-max or use "
            f"--devices {system_free // (needed // devices)}",
        )


def check_memory(devices: int, fleets: int, count: int, available_bytes: int) -> None:
    """Raises SettingsError when the processes of this machine, `count` gateways among them, do not fit its memory."""
    ends = 2 if count else 1
    needed = devices * ends * BYTES_AN_END + (fleets + count) * BYTES_A_PROCESS
    if needed > available_bytes:
        raise SettingsError(
            "--devices",
            f"{devices} devices need about {needed / 1e9:.1f} GB in {fleets + count} processes, and "
            f"{available_bytes / 1e9:.1f} GB are available; use fewer, or more machines with --share",
        )


def too_fast(scenario: Scenario, devices: int, cores: int) -> str:
    """A warning when a deploy needs more reconnects in a real second than this machine can do; "": it does not.

    A reconnect is both ends of a close and of a handshake with a token: a millisecond of CPU and more.
    """
    deploy = scenario.deploy
    if deploy is None or deploy.order != "rolling" or not deploy.drain or not deploy.delay_s:
        return ""
    leaving = min(devices, max_held(deploy, devices) * -(-deploy.old // deploy.waves))
    per_s, calm_per_s = leaving / deploy.delay_s * deploy.speed, cores * RECONNECTS_A_CORE_S
    if per_s <= calm_per_s:
        return ""
    speed = max(1.0, math.floor(deploy.speed * calm_per_s / per_s * 2) / 2)
    return (
        f"about {per_s:,.0f} reconnects a real second are more than {cores} cores can do evenly (about "
        f"{calm_per_s:,.0f}): with --speed {speed:g} the report is about the gateways and not about this machine"
    )


def expected_s(scenario: Scenario, devices: int, count: int) -> dict[str, float]:
    """About how long each phase takes, in their order, for a person who waits."""
    connect, part = scenario.connect, devices / scenario.fleet.devices
    rate = connect.rate_per_s * part if connect.kind != "at_once" else 1000.0
    return {
        "gateways": 1.0 + count / 2,
        "fleet": 2.0 + devices / 20_000,
        "connect": min(connect.within_s, 1 + devices / rate if rate else connect.within_s),
        "measure": scenario.run.duration_s if scenario.deploy is None else scenario.deploy.expected_s(),
        "settle": min(5.0, scenario.run.settle_s),
        "stop": 2.0 + devices / 5000,
        "judge": 1.0 + devices / 20_000,
    }
