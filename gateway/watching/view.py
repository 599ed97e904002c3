"""What a person, or a script, sees of a channel: a line for each event. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

from msgspec import json, to_builtins

from gateway.watching.messages import Event, Subscribed


def as_json(message: Subscribed | Event) -> str:
    """One JSON object, as it came."""
    told = {name: value for name, value in to_builtins(message).items() if value is not None}
    return json.encode(told).decode()


def line(channel: str, time_ms: int | None, offset: int | None, data: Any, zone: tzinfo | None = UTC) -> str:
    """One line of text; `time_ms` None: the state as of now. `zone` None: the machine's."""
    when = "now     " if time_ms is None else datetime.fromtimestamp(time_ms / 1000, zone).strftime("%H:%M:%S")
    number = "" if offset is None else f" #{offset}"
    show = _SHOWN.get(channel.partition(":")[0], _plain)
    return f"{when}{number}  {show(data)}"


def _plain(data: Any) -> str:
    return json.encode(data).decode()


def _device(data: Any) -> str:
    """`connected`, and where it is; as JSON when it is something else."""
    if not isinstance(data, dict) or not isinstance(data.get("connected"), bool):
        return _plain(data)
    words = ["connected" if data["connected"] else "away     "]
    place = data.get("location")
    if (
        isinstance(place, dict)
        and isinstance(place.get("lat"), float | int)
        and isinstance(place.get("lon"), float | int)
    ):
        words.append(f"{place['lat']:.6f}, {place['lon']:.6f}")
        measured = (("speed", " m/s"), ("heading", "°"), ("accuracy", " m accurate"))
        words += [f"{place[name]:g}{unit}" for name, unit in measured if isinstance(place.get(name), float | int)]
    else:
        words.append("no location yet")
    return "  ".join(words)


_SHOWN: dict[str, Callable[[Any], str]] = {"device": _device}
