"""Tracks from GPX files, for a device and for a whole fleet of them."""

from __future__ import annotations

from pathlib import Path

from gateway.device import gpx
from gateway.errors import SettingsError

MAX_TRACK_BYTES = 64 * 2**20


def read(path: Path, field: str) -> gpx.Recording:
    """The points of a file, at least one. Raises SettingsError for `field`, naming the file and what is wrong."""
    try:
        with path.open("rb") as file:
            payload = file.read(MAX_TRACK_BYTES + 1)
    except OSError as error:
        raise SettingsError(field, f"cannot read {path}: {error.strerror}") from error
    if len(payload) > MAX_TRACK_BYTES:
        raise SettingsError(field, f"{path} is larger than {MAX_TRACK_BYTES // 2**20} MiB")
    try:
        found = gpx.parse(payload)
    except gpx.GpxError as error:
        raise SettingsError(field, f"{path}: {error}") from error
    if not found.fixes:
        raise SettingsError(field, f"{path} has no track points{_left_out(found, ' that can be used: ')}")
    return found


def note(path: Path, found: gpx.Recording) -> str:
    """What a person should know of the file, in a line; "" for nothing."""
    return f"{path}{_left_out(found, ': ')}" if found.left_out else ""


def _left_out(found: gpx.Recording, lead: str) -> str:
    if not found.left_out:
        return ""
    more = ", …" if found.left_out > len(found.why) else ""
    return f"{lead}{found.left_out} point{'' if found.left_out == 1 else 's'} left out ({'; '.join(found.why)}{more})"
