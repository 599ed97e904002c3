"""What a run is asked for, and who watches it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from loadtest.fleet.replay import RecordingSummary
from loadtest.processes.fleets import COMMAND
from loadtest.processes.plan import MachineShare
from loadtest.results.recorder import Recorder
from loadtest.scenario.scenario import Scenario


class RunOptions(Struct, frozen=True):
    """`targets` empty: gateways are started here, `gateways` of them (0: enough for the devices).

    `operations` are the HTTP APIs of the targets through which what was stored can be judged. `recorded`: what is in
    the recording that the scenario plays.
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
    """Where a person sees what happens."""

    def note(self, text: str) -> None:
        """A line that stays."""

    def phase(self, name: str, within_s: float, later_s: float) -> None:
        """What is going on now, about how long it takes, and what comes after it."""

    def show(self, recorder: Recorder, devices: int) -> None:
        """The state, once a second."""
