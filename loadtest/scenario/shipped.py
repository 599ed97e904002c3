"""The scenarios that ship, and how others inherit from them."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from gateway.errors import SettingsError
from loadtest import bounded

FOLDER = Path(__file__).parent / "toml"
# Its fractions add up to 1, so that a table of two scenarios merged would be wrong.
WHOLE = "client_models"
# An integer of 5,000 digits and 3,000 nested brackets raise errors of their own.
NOT_TOML = (ValueError, RecursionError)


def names() -> list[str]:
    """The sorted names of all scenarios that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def path_of(given: str) -> Path:
    """The file of a scenario that ships, by its name, or a path. Raises SettingsError with the nearest name."""
    if given in names():
        return FOLDER / f"{given}.toml"
    path = Path(given)
    if not path.suffix and not path.exists():
        raise SettingsError("SCENARIO", f"{_unknown(given)} A file of your own ends in .toml")
    return path


def read(path: Path) -> str:
    """The text of a scenario file. Raises SettingsError."""
    try:
        return bounded.text(path)
    except (OSError, ValueError) as error:
        raise SettingsError("SCENARIO", f"cannot read {path}: {error}") from error


def whole(text: str, origin: str) -> dict[str, Any]:
    """The tables of a scenario, with missing keys taken from the scenario that `based_on` names.

    Raises SettingsError for text that is no TOML, and for a base that does not ship.
    """
    try:
        tree = tomllib.loads(text)
    except NOT_TOML as error:
        raise SettingsError("", f"{origin} is not valid TOML: {error}") from error
    base = tree.get("based_on", "")
    if not base:
        return tree
    if base not in names():
        raise SettingsError("based_on", f"{_unknown(str(base))} (set in {origin})")
    return _over(whole(read(FOLDER / f"{base}.toml"), base), tree)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict) and key != WHOLE
        merged[key] = _over(below[key], value) if both else value
    return merged


def _unknown(given: str) -> str:
    near = difflib.get_close_matches(given, names(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"those that ship are {', '.join(names())}."
    return f"there is no scenario {given!r}; {hint}"
