"""A scenario: what a fleet does, for how long, and what must hold. Its JSON Schema is for editors.

Every key has a default, so that a scenario file gives only what is special about it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from gateway.json_schema import in_json_words
from loadtest.scenario.arrivals import Arrival
from loadtest.scenario.behaviour import MAX_S, DeviceBehaviour, SamplePeriod
from loadtest.scenario.client_models import Fraction
from loadtest.scenario.deploy import DeploySection

CutMethod = Literal["reset", "fin", "silent", "stall"]
MAX_DEVICES = 10_000_000


class FleetSection(DeviceBehaviour, frozen=True, forbid_unknown_fields=True):
    devices: Annotated[int, Meta(ge=1, le=MAX_DEVICES, description="Devices of the whole fleet, on all machines.")] = (
        1000
    )
    devices_each: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_DEVICES,
            description="Devices of one fleet process; each needs one open file, and about 20,000 are a common limit.",
        ),
    ] = 18_000


class ConnectSection(Arrival, frozen=True, forbid_unknown_fields=True):
    """How connects are spread over time; rates are those of the whole fleet."""

    kind: Annotated[
        Literal["at_once", "constant", "poisson", "ramp", "daily"], Meta(description="The law of arrivals.")
    ] = "constant"
    rate_per_s: Annotated[float, Meta(ge=0, le=1e9, description="Connects a second.")] = 2000
    within_s: Annotated[
        float, Meta(gt=0, le=MAX_S, description="Maximum time to wait until all devices are connected.")
    ] = 600
    at_a_time: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Maximum number of handshakes of a fleet process under way; others wait, which is latency.",
        ),
    ] = 1000


class EventsSection(Arrival, frozen=True, forbid_unknown_fields=True):
    """How events are spread over time. Rates are of the whole fleet, `period_s` is of each device; 0: no events."""

    kind: Annotated[
        Literal["periodic", "constant", "poisson", "ramp", "daily"], Meta(description="The law of arrivals.")
    ] = "periodic"

    @property
    def none(self) -> bool:
        return self.of_events(1) is None


class CommandsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Commands from devices to devices, over their websockets. Open loop, Poisson."""

    rate_per_s: Annotated[float, Meta(ge=0, le=1e6, description="Commands a second of the whole fleet; 0: none.")] = 0
    deadline_s: Annotated[float, Meta(ge=0.1, le=60, description="How long a sender waits for the result.")] = 10


class RunSection(Struct, frozen=True, forbid_unknown_fields=True):
    duration_s: Annotated[
        float, Meta(gt=0, le=MAX_S, description="Time from when all devices are connected to the last new event.")
    ] = 300
    settle_s: Annotated[
        float, Meta(ge=0, le=MAX_S, description="Maximum time to wait for the acks of sent events.")
    ] = 60
    sample_period_s: SamplePeriod = 1.0


class ReplaySection(Struct, frozen=True, forbid_unknown_fields=True):
    file: Annotated[
        str,
        Meta(
            description="A recording of `heiwa serve --record`; empty: none. Devices connect, send and disconnect as "
            "they did then: `fleet.devices`, `events` and `run.duration_s` follow from it."
        ),
    ] = ""
    speed: Annotated[float, Meta(gt=0, le=1000, description="Play the recording this many times as fast.")] = 1


class GatewaysSection(Struct, frozen=True, forbid_unknown_fields=True):
    connections_each: Annotated[
        int, Meta(ge=1, le=MAX_DEVICES, description="Devices of a gateway, when the number of gateways is not given.")
    ] = 18_000
    broker: Annotated[
        bool, Meta(description="Start a Redis or Valkey of this machine, through which they reach each other.")
    ] = False
    settings: Annotated[
        dict[str, str | int | float | bool], Meta(description='Settings of all gateways: "section.key" = value.')
    ] = field(default_factory=dict)


class LampsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Devices beside the fleet that carry out commands, sent through the HTTP API of the run's own gateways."""

    each: Annotated[int, Meta(ge=0, le=1000, description="Lamps of each gateway; 0: none.")] = 0
    rate_per_s: Annotated[
        float, Meta(gt=0, le=10_000, description="Commands a second, half of them through another gateway.")
    ] = 20
    deadline_s: Annotated[float, Meta(gt=0, le=60, description="How long each waits for its result.")] = 5


class TimedAction(Struct, frozen=True, forbid_unknown_fields=True):
    at_s: Annotated[float, Meta(ge=0, le=MAX_S, description="Seconds from when all devices were connected.")]
    do: Annotated[
        Literal["cut", "kill_gateway", "kill_broker", "freeze_broker", "start_broker"],
        Meta(
            description="cut: break the path of some connections at once; kill_gateway: SIGKILL one gateway; "
            "kill_broker and freeze_broker: SIGKILL or SIGSTOP it; start_broker: start it empty, or let it go on."
        ),
    ]
    fraction: Annotated[Fraction, Meta(description="With cut: the fraction of all connections.")] = 1 / 3
    how: Annotated[
        CutMethod,
        Meta(
            description="With cut: a TCP reset, a FIN without a close frame, silence from then on, or silence (stall) "
            "for `for_s` seconds, after which devices go on with the same connections."
        ),
    ] = "reset"
    for_s: Annotated[float, Meta(ge=0, le=MAX_S, description="With stall: how long the silence lasts.")] = 0
    gateway: Annotated[int, Meta(ge=1, le=10_000, description="With kill_gateway: its number.")] = 1


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    based_on: Annotated[
        str, Meta(description="A scenario that ships, from which missing keys are taken; empty: none.")
    ] = ""
    description: Annotated[str, Meta(description="One sentence: what the scenario shows.")] = ""
    thresholds: Annotated[
        list[str], Meta(description="What must hold, such as `ack_p99_ms < 200`; a miss is exit code 99.")
    ] = field(default_factory=list)
    not_judged: Annotated[
        list[str], Meta(description="Figures whose thresholds, inherited through `based_on`, do not apply here.")
    ] = field(default_factory=list)
    fleet: FleetSection = field(default_factory=FleetSection)
    connect: ConnectSection = field(default_factory=ConnectSection)
    events: EventsSection = field(default_factory=EventsSection)
    commands: CommandsSection = field(default_factory=CommandsSection)
    run: RunSection = field(default_factory=RunSection)
    replay: ReplaySection = field(default_factory=ReplaySection)
    gateways: GatewaysSection = field(default_factory=GatewaysSection)
    lamps: LampsSection = field(default_factory=LampsSection)
    deploy: Annotated[
        DeploySection | None, Meta(description="A rolling deploy; it sets how long the measured time is.")
    ] = None
    actions: Annotated[list[TimedAction], Meta(description="What happens during the measured time.")] = field(
        default_factory=list
    )


def arrival(law: ConnectSection | EventsSection, fraction: float) -> Arrival:
    """The law of arrivals for a process that holds this fraction of the fleet: its rates are multiplied by it."""
    fields: dict[str, Any] = {name: getattr(law, name) for name in Arrival.__struct_fields__}
    return Arrival(**{name: value * fraction if name.endswith("_per_s") else value for name, value in fields.items()})


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    schema: dict[str, Any] = in_json_words(msgspec.json.schema(Scenario))
    return schema
