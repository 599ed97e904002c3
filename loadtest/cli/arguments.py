"""The options of `heiwa-loadtest run`, and how their texts are read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import SettingsError
from loadtest import bounded

MAX_AHEAD_S = 30 * 86_400
MIN_SECRET_BYTES = 32

ScenarioName = Annotated[str, typer.Argument(help="The name of a scenario that ships, or your own TOML file.")]
RecordingPath = Annotated[Path | None, typer.Argument(help="With replay: a recording made by heiwa serve --record.")]
DeviceCount = Annotated[int | None, typer.Option(min=1, help="Devices of the whole fleet.")]
Duration = Annotated[str, typer.Option("--for", help="How long to measure: 90s, 5m, 1h.")]
Speed = Annotated[
    float | None,
    typer.Option(help="Play a recording this many times as fast; in a deploy: simulated seconds in a real one."),
]
DeregistrationDelay = Annotated[str, typer.Option(help="In a deploy: the deregistration delay, such as 600s or 10m.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="In a deploy: run it without the drain and then with it, in one report.")
]
GatewayCount = Annotated[
    int,
    typer.Option(
        min=0,
        max=1000,
        help="Gateways to start on this machine; 0: enough for the devices. In a deploy: the old and the new ones.",
    ),
]
TargetUrls = Annotated[
    list[str] | None, typer.Option(help="A gateway that already runs, wss://…/ws, instead; repeatable.")
]
SecretFile = Annotated[
    Path | None, typer.Option(help="With --target: the secret that verifies its tokens (auth.secret_file).")
]
SearchUrls = Annotated[
    list[str] | None,
    typer.Option(help="With --target: an operations listener, http://…, in which to look for lost events; repeatable."),
]
Share = Annotated[str, typer.Option(help="This machine's share when several machines run together, such as 3/8.")]
StartAt = Annotated[
    str,
    typer.Option(help="When all machines start to connect: 2026-01-31T12:00:00Z, or seconds since 1970."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="The same seed gives the same random moments.")]
SetKey = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One key of the scenario; repeatable.")
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; default: out/TIME-NAME.")]
KeepData = Annotated[bool, typer.Option("--keep-data", help="Keep the data folders of the gateways.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def seconds(text: str, option: str = "--for") -> float:
    """`90s`, `5m`, `1h` in seconds. Raises SettingsError."""
    from gateway.identity.minting import duration_s

    return duration_s(text, option)


def moment_ms(text: str) -> int:
    """A moment in ms since the Unix epoch; 0: at once. Raises SettingsError unless it lies within MAX_AHEAD_S."""
    from datetime import datetime

    if not text:
        return 0
    try:
        moment_s = (
            float(text) if text.replace(".", "", 1).isdigit() else datetime.fromisoformat(text.upper()).timestamp()
        )
    except ValueError as error:
        raise SettingsError("--start-at", f"{text!r} is not a time; write 2026-01-31T12:00:00Z") from error
    if moment_s > time.time() + MAX_AHEAD_S:
        raise SettingsError("--start-at", f"{text[:40]} is more than {MAX_AHEAD_S // 86_400} days ahead")
    if moment_s < time.time():
        raise SettingsError("--start-at", f"{text} is past; machines need time to start their processes, give a minute")
    return int(moment_s * 1000)


def secret(path: Path | None, *, needed: bool) -> str:
    """The secret in a file; "" without one that is not needed. Raises SettingsError."""
    if path is None:
        if needed:
            raise SettingsError(
                "--secret-file",
                "devices need tokens; name the file with the secret that verifies them at the target (its "
                "auth.secret_file, or `key` in its data folder)",
            )
        return ""
    try:
        found = bounded.text(path).strip()
    except (OSError, ValueError) as error:
        raise SettingsError("--secret-file", f"cannot read {path}: {error}") from error
    if len(found) < MIN_SECRET_BYTES:
        raise SettingsError("--secret-file", f"{len(found)} bytes; it needs {MIN_SECRET_BYTES} or more")
    return found
