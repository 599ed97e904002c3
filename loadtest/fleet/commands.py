"""The commands that a fleet process takes, one JSON object a line, named by its `do`. An `at_ms` (ms since the Unix
epoch) is the earliest moment to act; 0: at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gateway.decoding import Payload, decoder
from loadtest.scenario.client_models import Fraction
from loadtest.scenario.scenario import CutMethod

EarliestMs = Annotated[float, Meta(ge=0)]


class ConnectCommand(Struct, frozen=True, tag="connect", tag_field="do"):
    """Open the connections, as `connect` of the options says; with a recording those that were open when it began."""

    at_ms: EarliestMs = 0


class SendCommand(Struct, frozen=True, tag="send", tag_field="do"):
    """Begin to send events, or to play the recording."""

    at_ms: EarliestMs = 0


class PauseCommand(Struct, frozen=True, tag="pause", tag_field="do"):
    """Make no new events."""


class CutCommand(Struct, frozen=True, tag="cut", tag_field="do"):
    """Break a fraction of all connections at once; `for_s` is how long a `stall` lasts."""

    fraction: Fraction = 1
    how: CutMethod = "reset"
    for_s: Annotated[float, Meta(ge=0)] = 0


class TargetsCommand(Struct, frozen=True, tag="targets", tag_field="do"):
    """Where devices connect from now on; empty: each connect is refused, unless the routing is `fixed`.

    `weights`: what part of the connects each of them gets; empty: as the routing says.
    """

    urls: list[str] = []
    weights: list[Annotated[float, Meta(ge=0)]] = []


class CutTargetCommand(Struct, frozen=True, tag="cut_target", tag_field="do"):
    """Break all connections to one target, as a load balancer does."""

    url: str
    how: CutMethod = "reset"


class StopCommand(Struct, frozen=True, tag="stop", tag_field="do"):
    """Wait up to `within_s` for acks (None: `finish_s` of the options), close, write the last sample, exit.

    A second one ends the process at once.
    """

    within_s: Annotated[float, Meta(ge=0)] | None = None


FleetCommand = (
    ConnectCommand | SendCommand | PauseCommand | CutCommand | TargetsCommand | CutTargetCommand | StopCommand
)

encode = msgspec.json.Encoder().encode
# Raises msgspec.DecodeError.
decode: Callable[[Payload], FleetCommand] = decoder(FleetCommand)  # type: ignore[arg-type]
