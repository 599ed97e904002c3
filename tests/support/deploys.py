"""A small deploy as a person runs it, played many times faster, and what its result says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.loadtests import run

DEVICES = 40
SMALL = (
    "deploy.speed=60",
    "deploy.delay_s=120",
    "deploy.before_s=10",
    "deploy.after_s=40",
    "connect.rate_per_s=200",
    "events.period_s=2",
    "run.settle_s=20",
    "run.sample_period_s=0.2",
)


class Played:
    """The result of a deploy. `figures` are its figures, `drains` what each gateway said of its drains, by wave."""

    def __init__(self, result: dict[str, Any], folder: Path) -> None:
        self.result = result
        self.folder = folder
        self.figures: dict[str, float | None] = result["figures"]
        self.waves: list[dict[str, Any]] = result["waves"]
        self.client_models: dict[str, dict[str, int]] = result["client_models"]

    @property
    def drains(self) -> list[dict[str, Any]]:
        return [drain for wave in self.waves for drain in wave["drains"]]

    def begun_by(self, origin: str) -> list[dict[str, Any]]:
        """The drains that somebody began."""
        return [drain for drain in self.drains if drain.get("origin") == origin]

    def states(self) -> dict[str, str]:
        """Where each gateway stood when it was last asked."""
        return {drain["name"]: drain.get("state", "") for drain in self.drains}

    def logged(self, event: str, *names: str, **fields: str) -> bool:
        """Whether each of these gateways logged an event with these fields."""
        wanted = {"event": event, **fields}
        logs = [(self.folder / f"{name}.log").read_text().splitlines() for name in names]
        lines = [[json.loads(line) for line in log if line.startswith("{")] for log in logs]
        return all(any(wanted.items() <= line.items() for line in of) for of in lines)

    def happened(self, text: str) -> bool:
        """Whether a step of the deploy was this."""
        return any(text in event["text"] for event in self.result["events"] if event["what"] == "wave")


def deploy(
    folder: Path, *settings: str, scenario: str = "deploy", devices: int = DEVICES, options: tuple[str, ...] = ()
) -> Played:
    """Play a scenario that ships; asserts what holds whatever goes wrong: all are back, nothing is lost or doubled."""
    arguments = ["run", scenario, "--json", "--out", str(folder), "--seed", "7", *options]
    for setting in (*SMALL, f"fleet.devices={devices}", "thresholds=[]", *settings):
        arguments += ["--set", setting]
    done = run(*arguments, cwd=folder.parent)
    logs = "".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log")))
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr}{logs}"
    played = Played(json.loads(done.stdout), folder)
    figures = played.figures
    assert figures["sent"]
    assert (figures["lost"], figures["doubled"], figures["unaccounted"]) == (0, 0, 0), played.result
    assert figures["connected"] == figures["devices"] == devices, (
        f"{played.result['client_models']}{played.waves}{logs}"
    )
    assert figures["processes_died"] == 0, logs
    return played
