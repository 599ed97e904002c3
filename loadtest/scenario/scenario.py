"""A scenario: what a fleet does, for how long, and what must hold. TOML in, JSON Schema for editors out.

Every key has a default, so that a scenario file says only what is special about it. Text that cannot be a scenario is
refused with the key, what is allowed and the nearest known key.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from gateway.errors import SettingsError
from loadtest.scenario import shipped, thresholds
from loadtest.scenario.arrivals import Arrival
from loadtest.scenario.client_models import CLIENT_MODELS, Fraction, fractions_problem
from loadtest.scenario.deploy import DeploySection

How = Literal["reset", "fin", "silent", "stall"]
MAX_DEVICES = 10_000_000
MAX_S = 1e7  # 115 days


class FleetSection(Struct, frozen=True, forbid_unknown_fields=True):
    devices: Annotated[int, Meta(ge=1, le=MAX_DEVICES, description="Devices in all, over all machines.")] = 1000
    devices_each: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_DEVICES,
            description="Devices of one fleet process; each device is one file of at most 20,000 or so.",
        ),
    ] = 18_000
    account: Annotated[str, Meta(min_length=1, description="The tenant of all devices.")] = "loadtest"
    prefix: Annotated[str, Meta(min_length=1, description="Device ids are this and a number.")] = "device-"
    client_models: Annotated[
        dict[str, Fraction],
        Meta(
            description="Fraction of the devices that behave as each client model does.",
            extra_json_schema={"propertyNames": {"enum": list(CLIENT_MODELS)}},
        ),
    ] = field(default_factory=lambda: {"patient": 1.0})
    tracks: Annotated[
        str, Meta(description='GPX files to follow: "recorded" (those that ship), a folder; empty: synthetic walks.')
    ] = ""
    slow_readers: Annotated[
        Fraction, Meta(description="Fraction of the devices that stop reading once they are connected.")
    ] = 0
    half_open: Annotated[
        Fraction, Meta(description="Fraction of the devices that fall silent once without closing.")
    ] = 0
    half_open_s: Annotated[float, Meta(gt=0, le=MAX_S, description="How long these are silent.")] = 120
    half_open_after_s: Annotated[
        float, Meta(ge=0, le=MAX_S, description="From its welcome to the silence of such a device, at least.")
    ] = 5
    half_open_within_s: Annotated[float, Meta(ge=0, le=MAX_S, description="The same, at most.")] = 60
    churn_period_s: Annotated[
        float, Meta(ge=0, le=MAX_S, description="A device leaves and comes back once in so long; 0: it stays.")
    ] = 0


class ConnectSection(Arrival, frozen=True, forbid_unknown_fields=True):
    """How connects are spread over time; rates are of the whole fleet."""

    kind: Annotated[
        Literal["at_once", "constant", "poisson", "ramp", "daily"], Meta(description="The law of arrivals.")
    ] = "constant"
    rate_per_s: Annotated[float, Meta(ge=0, le=1e9, description="Connects a second.")] = 2000
    within_s: Annotated[float, Meta(gt=0, le=MAX_S, description="Go on when not all are connected after so long.")] = (
        600
    )
    at_a_time: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Handshakes of one fleet process under way at a time; others wait, which counts as latency.",
        ),
    ] = 1000


class EventsSection(Arrival, frozen=True, forbid_unknown_fields=True):
    """How events are spread over time; rates are of the whole fleet, `period_s` is of each device; 0: no events."""

    kind: Annotated[
        Literal["periodic", "constant", "poisson", "ramp", "daily"], Meta(description="The law of arrivals.")
    ] = "periodic"

    @property
    def none(self) -> bool:
        return self.of_events(1) is None


class RunSection(Struct, frozen=True, forbid_unknown_fields=True):
    duration_s: Annotated[
        float, Meta(gt=0, le=MAX_S, description="From when all are connected to the last new event.")
    ] = 300
    settle_s: Annotated[float, Meta(ge=0, le=MAX_S, description="Longest wait for acks of what was sent.")] = 60


class ReplaySection(Struct, frozen=True, forbid_unknown_fields=True):
    file: Annotated[
        str,
        Meta(
            description="A recording of `heiwa serve --record`; empty: none. Its devices come, send and go when they "
            "did: `fleet.devices`, `events` and `run.duration_s` follow from it."
        ),
    ] = ""
    speed: Annotated[float, Meta(gt=0, le=1000, description="So many times as fast as it was recorded.")] = 1


class GatewaysSection(Struct, frozen=True, forbid_unknown_fields=True):
    connections_each: Annotated[
        int, Meta(ge=1, le=MAX_DEVICES, description="Devices a gateway, when their number is not given.")
    ] = 18_000
    settings: Annotated[
        dict[str, str | int | float | bool], Meta(description='Settings of each gateway: "section.key" = value.')
    ] = field(default_factory=dict)


class TimedAction(Struct, frozen=True, forbid_unknown_fields=True):
    at_s: Annotated[float, Meta(ge=0, le=MAX_S, description="Seconds after all were connected.")]
    do: Annotated[
        Literal["cut", "kill_gateway"],
        Meta(description="cut: break the path of some connections at once; kill_gateway: SIGKILL one gateway."),
    ]
    fraction: Annotated[Fraction, Meta(description="With cut: the fraction of all connections.")] = 1 / 3
    how: Annotated[
        How,
        Meta(
            description="With cut: a TCP reset, an orderly end without a close frame, nothing at all from then on, or "
            "nothing for `for_s` seconds, after which devices go on as if there had been no pause."
        ),
    ] = "reset"
    for_s: Annotated[float, Meta(ge=0, le=MAX_S, description="With stall: how long nothing passes.")] = 0
    gateway: Annotated[int, Meta(ge=1, le=10_000, description="With kill_gateway: which one.")] = 1


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    based_on: Annotated[
        str, Meta(description="A scenario that ships: what this one does not say is as it is there; empty: none.")
    ] = ""
    description: Annotated[str, Meta(description="One sentence: what it shows.")] = ""
    thresholds: Annotated[
        list[str], Meta(description="What must hold, such as `ack_p99_ms < 200`; missed: exit code 99.")
    ] = field(default_factory=list)
    not_judged: Annotated[
        list[str], Meta(description="Figures whose thresholds, taken over with `based_on`, say nothing here.")
    ] = field(default_factory=list)
    fleet: FleetSection = field(default_factory=FleetSection)
    connect: ConnectSection = field(default_factory=ConnectSection)
    events: EventsSection = field(default_factory=EventsSection)
    run: RunSection = field(default_factory=RunSection)
    replay: ReplaySection = field(default_factory=ReplaySection)
    gateways: GatewaysSection = field(default_factory=GatewaysSection)
    deploy: Annotated[
        DeploySection | None, Meta(description="A rolling deploy; the measured time is then as long as it takes.")
    ] = None
    actions: Annotated[list[TimedAction], Meta(description="What happens while the fleet is connected.")] = field(
        default_factory=list
    )


SECTIONS: dict[str, type[Struct]] = {
    "fleet": FleetSection,
    "connect": ConnectSection,
    "events": EventsSection,
    "run": RunSection,
    "replay": ReplaySection,
    "gateways": GatewaysSection,
    "deploy": DeploySection,
}
# Keys below these are the user's own names.
FREE = ("fleet.client_models", "gateways.settings")


def parse(text: str, origin: str, overrides: Sequence[str] = ()) -> Scenario:
    """A scenario from TOML; `overrides` are `section.key=value`, the value as in TOML or plain text.

    Raises SettingsError naming the key, where it was set, what is allowed and the nearest known key.
    """
    tree = shipped.whole(text, origin)
    for override in overrides:
        _override(tree, override)
    for key in _keys(tree):
        if key not in known_keys():
            raise SettingsError(key, f"no such key (set in {origin} or with --set){_near(key)}")
    try:
        scenario = msgspec.convert(tree, Scenario)
    except msgspec.ValidationError as error:
        raise SettingsError("", f"{origin}: {error}") from error
    _check(scenario, origin)
    judged = [text for text in scenario.thresholds if thresholds.parse(text).name not in scenario.not_judged]
    return replace(scenario, thresholds=judged)


def arrival(law: ConnectSection | EventsSection, part: float) -> Arrival:
    """The law of arrivals of a process that has so large a part (0 to 1) of the fleet."""
    fields: dict[str, Any] = {name: getattr(law, name) for name in Arrival.__struct_fields__}
    return Arrival(**{name: value * part if name.endswith("_per_s") else value for name, value in fields.items()})


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    return msgspec.json.schema(Scenario)


def known_keys() -> tuple[str, ...]:
    """Every dotted key; those of an action as `actions.key`."""
    keys = [name for name in Scenario.__struct_fields__ if name not in SECTIONS]
    for section, kind in SECTIONS.items():
        keys += [section, *(f"{section}.{name}" for name in kind.__struct_fields__)]
    return (*keys, *(f"actions.{name}" for name in TimedAction.__struct_fields__))


def _keys(tree: Mapping[str, Any]) -> Iterator[str]:
    for name, value in tree.items():
        yield name
        items = value if isinstance(value, list) else [value]
        for item in items:
            if isinstance(item, dict):
                yield from (f"{name}.{key}" for key in item)


def _near(key: str) -> str:
    known = known_keys()
    last = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7) or [
        name for name in known if name.rpartition(".")[2] == last
    ]
    if not near:
        tails = {name.rpartition(".")[2]: name for name in known}
        near = [tails[name] for name in difflib.get_close_matches(last, tails, n=1)]
    section = key.partition(".")[0]
    fields = get_type_hints(SECTIONS[section]) if section in SECTIONS else {}
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known are {', '.join(fields or get_type_hints(Scenario))}"


def _override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise SettingsError(key, "--set takes section.key=value")
    parts = key.split(".")
    for free in FREE:
        if key.startswith(f"{free}."):
            parts = [*free.split("."), key.removeprefix(f"{free}.")]
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise SettingsError(key, "only keys of tables can be set; actions are changed in a file of your own")
    try:
        node[parts[-1]] = tomllib.loads(f"value = {text}")["value"]
    except shipped.NOT_TOML:
        node[parts[-1]] = text


def _check(scenario: Scenario, origin: str) -> None:
    for text in scenario.thresholds:
        thresholds.parse(text)
    for name in scenario.not_judged:
        thresholds.check_known(name, f"not_judged (set in {origin})")
    for section, law in (("connect", scenario.connect), ("events", scenario.events)):
        problem = arrival(law, 1.0).problem(section == "events")
        if problem is not None:
            raise SettingsError(section, f"{problem} (set in {origin})")
    problem = fractions_problem(scenario.fleet.client_models)
    if problem is not None:
        raise SettingsError("fleet.client_models", f"{problem} (set in {origin})")
    if scenario.fleet.half_open_after_s > scenario.fleet.half_open_within_s:
        raise SettingsError("fleet.half_open_after_s", f"is more than fleet.half_open_within_s (set in {origin})")
    if scenario.deploy is not None:
        scenario.deploy.check(origin)
    if not scenario.replay.file:
        check_actions(scenario)


def check_actions(scenario: Scenario) -> None:
    """Raises SettingsError when one of them lies after the end of the run."""
    for action in scenario.actions:
        if action.at_s >= scenario.run.duration_s:
            raise SettingsError(
                "actions.at_s",
                f"{action.at_s:g} s is not before the end of the run ({scenario.run.duration_s:g} s); make it longer "
                "with --for",
            )
