"""Settings from a file, the environment and flags, each value with the place it came from.

Later ones win: defaults, `heiwa.toml`, `HEIWA_SECTION__KEY`, `--set section.key=value`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import replace

from gateway.errors import SettingsError
from gateway.settings.model import SECRETS, Settings

ENVIRONMENT_PREFIX = "HEIWA_"
MAX_FILE_BYTES = 1 << 20
_HINTS = get_type_hints(Settings, include_extras=True)
# Sections that hold a table a name, `[device_classes.NAME]`, with what one table holds; some names have presets.
TABLES: dict[str, type] = {section: get_args(hint)[1] for section, hint in _HINTS.items() if get_origin(hint) is dict}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "array": "a list"}


class Given(NamedTuple):
    """A value that was set. `text` is true when it came as text and is to be read as the setting's type."""

    value: object
    origin: str
    text: bool


class Loaded(NamedTuple):
    """The settings and, for each dotted key that was set, where."""

    settings: Settings
    origins: dict[str, str]


def load(config: Path | None, environment: Mapping[str, str], flags: Sequence[str] = ()) -> Loaded:
    """Read settings.

    `config` None means `heiwa.toml` in the current folder, if there is one. `flags` are `section.key=value`.
    Raises SettingsError naming the key, where it was set, what is allowed, and the nearest known key.
    """
    given: dict[str, Given] = {}
    for source in (_from_file(config), _from_environment(environment), _from_flags(flags)):
        given.update(source)
    return Loaded(_build(given), {key: item.origin for key, item in given.items()})


def flatten(settings: Settings) -> Iterator[tuple[str, object]]:
    """Every dotted key with its value, in the order of the model."""
    for section in settings.__struct_fields__:
        value = getattr(settings, section)
        named = {f"{section}.{name}": one for name, one in value.items()} if section in TABLES else {section: value}
        for prefix, one in named.items():
            for key in one.__struct_fields__:
                yield f"{prefix}.{key}", getattr(one, key)


def _from_file(config: Path | None) -> dict[str, Given]:
    path = config or Path("heiwa.toml")
    if config is None and not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            payload = file.read(MAX_FILE_BYTES + 1)
        if len(payload) > MAX_FILE_BYTES:
            raise SettingsError("", f"{path} is larger than {MAX_FILE_BYTES} bytes")
        tree = tomllib.loads(payload.decode())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("", f"cannot read {path}: {error}") from error
    except (ValueError, RecursionError) as error:  # also an integer of 5,000 digits and 3,000 brackets
        raise SettingsError("", f"{path} is not valid TOML: {error}") from error
    return {key: Given(value, str(path), text=False) for key, value in _leaves(tree, "")}


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."): Given(value, name, text=True)
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name
    }


def _from_flags(flags: Sequence[str]) -> dict[str, Given]:
    given = {}
    for flag in flags:
        key, separator, value = flag.partition("=")
        if not separator:
            raise SettingsError(key, "--set takes section.key=value")
        given[key.strip()] = Given(value, f"--set {key}", text=True)
    return given


def _build(given: Mapping[str, Given]) -> Settings:
    sections: dict[str, dict[str, object]] = {}
    tables: dict[tuple[str, str], dict[str, object]] = {}
    for key, item in given.items():
        _check_origin(key, item)
        section, _, name = key.partition(".")
        if section in TABLES and "." in name:
            row, _, name = name.rpartition(".")
            tables.setdefault((section, row), {})[name] = _convert(key, item, TABLES[section], name)
        elif section in _HINTS and section not in TABLES:
            sections.setdefault(section, {})[name] = _convert(key, item, _HINTS[section], name)
        else:
            raise _unknown(key, item)
    built: dict[str, Any] = {section: _HINTS[section](**values) for section, values in sections.items()}
    settings = Settings(**built)
    for (section, row), values in tables.items():
        rows = getattr(settings, section)
        rows[row] = replace(rows.get(row) or TABLES[section](), **values)
    return settings


def _check_origin(key: str, item: Given) -> None:
    variable = f"{ENVIRONMENT_PREFIX}{key.upper().replace('.', '__')}"
    if key in SECRETS and item.origin != variable:
        problem = f"is read from the environment only ({variable}), so that no file or argument list holds it"
        raise SettingsError(key, f"{problem} (set in {item.origin})")


def _convert(key: str, item: Given, section: type, name: str) -> object:
    hint = get_type_hints(section, include_extras=True).get(name)
    if hint is None:
        raise _unknown(key, item)
    if isinstance(item.value, str) and "\0" in item.value:
        raise SettingsError(key, f"holds the character U+0000 (set in {item.origin})")
    try:
        return msgspec.convert(item.value, hint, strict=not item.text)
    except msgspec.ValidationError as error:
        raise SettingsError(key, f"{_in_words(str(error))} (set in {item.origin}, got {item.value!r})") from error


def _in_words(problem: str) -> str:
    """What msgspec says of a value, with its names of types as a person calls them."""
    return re.sub(r"`(\w+)`", lambda found: _KINDS.get(found[1], found[0]), problem)


def _unknown(key: str, item: Given) -> SettingsError:
    import difflib

    known = [name for name, _ in flatten(Settings())]
    near = difflib.get_close_matches(key, known, n=1) or [
        name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]
    ]
    hint = f"; did you mean {near[0]}?" if near else f"; sections are {', '.join(Settings.__struct_fields__)}"
    return SettingsError(key, f"no such setting (set in {item.origin}){hint}")
