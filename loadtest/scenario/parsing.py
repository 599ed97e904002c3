"""Reads a scenario from TOML and overrides. Text that is no scenario is refused with the key, what is allowed and the
nearest known key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.errors import SettingsError
from loadtest.scenario import shipped, thresholds
from loadtest.scenario.deploy import DeploySection
from loadtest.scenario.scenario import (
    CommandsSection,
    ConnectSection,
    EventsSection,
    FleetSection,
    GatewaysSection,
    LampsSection,
    ReplaySection,
    RunSection,
    Scenario,
    TimedAction,
    arrival,
)

SECTIONS: dict[str, type[Struct]] = {
    "fleet": FleetSection,
    "connect": ConnectSection,
    "events": EventsSection,
    "commands": CommandsSection,
    "run": RunSection,
    "replay": ReplaySection,
    "gateways": GatewaysSection,
    "lamps": LampsSection,
    "deploy": DeploySection,
}
# Keys below these are names of the user's choice.
FREE = ("fleet.client_models", "gateways.settings", "deploy.new_settings")


def parse(text: str, origin: str, overrides: Mapping[str, object] | None = None) -> Scenario:
    """A scenario from TOML, with other values for some keys: `overrides` are values by dotted key.

    Raises SettingsError naming the key, where it was set, what is allowed and the nearest known key.
    """
    tree = shipped.whole(text, origin)
    for key, value in (overrides or {}).items():
        _override(tree, key, value)
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


def load(given: str, overrides: Mapping[str, object] | None = None) -> tuple[str, Scenario]:
    """A scenario with its name: `given` is the name of one that ships, or a path. Raises SettingsError."""
    path = shipped.path_of(given)
    return path.stem, parse(shipped.read(path), path.name, overrides)


def has_deploy(given: str, overrides: Mapping[str, object]) -> bool:
    """Whether a scenario (see `load`) has a section [deploy]. Raises SettingsError."""
    if any(key.startswith("deploy.") for key in overrides):
        return True
    path = shipped.path_of(given)
    return "deploy" in shipped.whole(shipped.read(path), path.name)


def read_overrides(texts: Iterable[str]) -> dict[str, object]:
    """Values by dotted key from `section.key=value`, the value in TOML or as plain text. Raises SettingsError."""
    overrides: dict[str, object] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not key:
            raise SettingsError(key, "--set takes section.key=value")
        try:
            overrides[key] = tomllib.loads(f"value = {value}")["value"]
        except shipped.NOT_TOML:
            overrides[key] = value
    return overrides


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


def _override(tree: dict[str, Any], key: str, value: object) -> None:
    parts = key.split(".")
    for free in FREE:
        if key.startswith(f"{free}."):
            parts = [*free.split("."), key.removeprefix(f"{free}.")]
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise SettingsError(key, "only keys of tables can be set; change actions in a file of your own")
    node[parts[-1]] = value


def _check(scenario: Scenario, origin: str) -> None:
    for text in scenario.thresholds:
        thresholds.parse(text)
    for name in scenario.not_judged:
        thresholds.check_known(name, f"not_judged (set in {origin})")
    for section, law in (("connect", scenario.connect), ("events", scenario.events)):
        problem = arrival(law, 1.0).problem(section == "events")
        if problem is not None:
            raise SettingsError(section, f"{problem} (set in {origin})")
    if wrong := scenario.fleet.problem():
        field, text = wrong
        raise SettingsError(f"fleet.{field}", f"{text} (set in {origin})")
    if scenario.deploy is not None:
        scenario.deploy.check(origin)
    if not scenario.replay.file:
        check_actions(scenario)


def check_actions(scenario: Scenario) -> None:
    """Raises SettingsError when an action lies after the end of the run."""
    for action in scenario.actions:
        if action.at_s >= scenario.run.duration_s:
            raise SettingsError(
                "actions.at_s",
                f"{action.at_s:g} s is not before the end of the run ({scenario.run.duration_s:g} s); make it longer "
                "with --for",
            )
