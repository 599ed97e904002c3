"""Reading what the strict decoder refuses, to say which part of a message is at fault and to keep the rest.

Text may hold bytes that are no UTF-8 or half of a surrogate pair; whole numbers come with a fraction or an exponent.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, TypeVar

import msgspec

from gateway.locations.event import LocationEvent

# Of an id that is named in an answer although it is not a legal one.
MAX_ID_BYTES = 128
# More digits than 64 bits can hold, which is all that matters of such a number.
_MAX_DIGITS = 20
_HUGE: int = 10**_MAX_DIGITS

T = TypeVar("T", bound=msgspec.Struct)


def loosely(payload: bytes) -> Any:
    """A message as Python objects; None when it is not JSON. Text that is not Unicode holds lone surrogates."""
    try:
        return _decode(payload.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None


def loose_event(raw: Any) -> LocationEvent:
    """One event of a message read by `loosely`. Raises msgspec.ValidationError with the path of the field."""
    if isinstance(raw, dict):
        time = raw.get("time")
        if isinstance(time, float) and time.is_integer():
            raw = {**raw, "time": int(time)}
        for name in LocationEvent.__struct_fields__:
            if isinstance(value := raw.get(name), float) and not isfinite(value):
                raise msgspec.ValidationError(f"Number out of range - at `$.{name}`")
        _check_attributes(raw.get("attributes"))
    return shaped(raw, LocationEvent)


def shaped(raw: Any, kind: type[T]) -> T:
    """Something read by `loosely` as a record. Raises msgspec.ValidationError.

    Names that the record does not know are ignored, as the strict decoder does.
    """
    if isinstance(raw, dict):
        raw = {name: raw[name] for name in kind.__struct_encode_fields__ if name in raw}
        for name, value in raw.items():
            if isinstance(value, str) and not is_text(value):
                raise msgspec.ValidationError(f"Not Unicode text - at `$.{name}`")
    try:
        return msgspec.convert(raw, kind)
    except UnicodeEncodeError as error:
        # The library wants to read a name, or a text in place of something else.
        raise msgspec.ValidationError("Not Unicode text - at `$`") from error


def name_of(raw: Any) -> str | None:
    """The `id` of a message or an event read by `loosely`; None when there is none that could be named.

    One that is far too long names nothing: the answer must not grow with what a peer sends.
    """
    name = raw.get("id") if isinstance(raw, dict) else None
    return name if isinstance(name, str) and is_text(name) and len(name.encode()) <= MAX_ID_BYTES else None


def _check_attributes(attributes: Any) -> None:
    """What the strict decoder says without the name of the attribute."""
    if not isinstance(attributes, dict):
        return
    for name, value in attributes.items():
        if not is_text(name):
            raise msgspec.ValidationError("A name is not Unicode text - at `$.attributes`")
        if isinstance(value, str) and not is_text(value):
            problem = "Not Unicode text"
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            problem = "Not a whole number of 64 bits"
        elif isinstance(value, float) and not isfinite(value):
            problem = "Number out of range"
        elif isinstance(value, list | dict):
            problem = "Expected `str | int | float | bool | null`, not a list or an object"
        else:
            continue
        raise msgspec.ValidationError(f"{problem} - at `$.attributes.{name[:64]}`")


def is_text(text: str) -> bool:
    """Whether it is Unicode: no half of a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(digits: str) -> int:
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    return -_HUGE if digits.startswith("-") else _HUGE


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(parse_int=_whole, parse_constant=_refuse).decode
