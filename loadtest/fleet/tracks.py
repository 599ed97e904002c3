"""The GPX tracks that devices follow."""

from __future__ import annotations

from pathlib import Path

from gateway.device import track_file
from gateway.device.gpx import Fix
from gateway.errors import SettingsError

RECORDED = Path(__file__).parents[1] / "tracks"


def track_paths(given: str) -> list[Path]:
    """The GPX files that the option `tracks` names; none: synthetic walks. Raises SettingsError for an empty folder."""
    if not given:
        return []
    path = RECORDED if given == "recorded" else Path(given)
    paths = sorted(path.glob("*.gpx")) if path.is_dir() else [path]
    if not paths:
        raise SettingsError("tracks", f"there is no .gpx file in {path}")
    return paths


def tracks(given: str) -> list[list[Fix]]:
    """The points of each GPX file; none: synthetic walks. Raises SettingsError naming the file."""
    return [track_file.read(path, "tracks").fixes for path in track_paths(given)]
