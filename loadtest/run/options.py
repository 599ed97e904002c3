"""The options of a run, and the view through which a person watches it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from loadtest.fleet.replay import RecordingSummary
from loadtest.processes.fleets import COMMAND
from loadtest.processes.slices import MachineShare
from loadtest.results.recorder import Recorder
from loadtest.scenario.scenario import Scenario


class RunOptions(Struct, frozen=True):
    """`targets` are gateways that run elsewhere; empty: `gateways` are started here (0: enough for the devices).

    `operations` are the targets' HTTP APIs, through which stored events are looked for. `recorded` is what the
    recording holds that the scenario plays.
    """

    name: str
    scenario: Scenario
    out: Path
    seed: int
    share: MachineShare = MachineShare()
    gateways: int = 0
    targets: Sequence[str] = ()
    operations: Sequence[str] = ()
    secret: str = ""
    start_at_ms: int = 0
    keep_data: bool = False
    recorded: RecordingSummary | None = None
    fleet_command: Sequence[str] = COMMAND


class View(Protocol):
    """Shows a person what happens."""

    def note(self, text: str) -> None:
        """Show a line that stays."""

    def phase(self, name: str, within_s: float, later_s: float) -> None:
        """A phase begins: about how long it takes, and how long all later ones take."""

    def show(self, recorder: Recorder, devices: int) -> None:
        """Show the state; called once a second."""
