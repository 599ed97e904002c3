"""Reading JSON that a peer sent: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
Payload = bytes | str | msgspec.Raw
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
# Only what a record names itself, in no list or mapping: so a message holds no more of them than its record has fields.
_FRACTION = re.compile(r"Expected `int[^`]*`, got `float` - at `\$((?:\.\w+)+)`")


def decoder(kind: type[T]) -> Callable[[Payload], T]:
    """A function that reads JSON as `kind`.

    A field for an integer takes `5.0` and `5e0` as well: to JSON Schema, and to clients that know one kind of number,
    they are integers. It raises msgspec.ValidationError for JSON of another shape, and its base msgspec.DecodeError for
    all else: no JSON, text that is not UTF-8, brackets nested deeper than the interpreter goes.
    """
    decode = msgspec.json.Decoder(kind).decode

    def read(payload: Payload) -> T:
        try:
            try:
                return decode(payload)
            except msgspec.ValidationError as error:
                return _with_integers(decode, payload, error)
        except RecursionError as error:
            raise msgspec.DecodeError("JSON is nested too deeply") from error
        except UnicodeError as error:
            raise msgspec.DecodeError("JSON is not UTF-8") from error
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError as error:
            if _has_half_a_pair(payload):
                # The library calls it truncated.
                raise msgspec.DecodeError("a text holds half of a surrogate pair") from error
            raise

    return read


def object_in(payload: bytes | str) -> dict[str, Any]:
    """The JSON object that a job has answered; empty: it is none, or no JSON at all.

    Raises ValueError for one that cannot be kept: a number is beyond 1e308, or a text holds half of a surrogate pair.
    """
    try:
        found = _anything(payload)
    except msgspec.ValidationError as error:
        raise ValueError(f"the result holds a {str(error).lower()}") from error
    except msgspec.DecodeError as error:
        if _is_json(payload):
            raise ValueError("the result holds half of a surrogate pair, which is no text") from error
        return {}
    return found if isinstance(found, dict) else {}


def _is_json(payload: bytes | str) -> bool:
    """As others understand it."""
    try:
        standard_json(payload)
    except (ValueError, RecursionError):
        return False
    return True


def standard_json(text: bytes | str) -> Any:
    """A JSON value that a person has written; its texts may hold halves of surrogate pairs.

    Raises ValueError, also for what Python takes and the standard does not know (NaN), and for numbers beyond 1e308;
    RecursionError.
    """
    return json.loads(text, parse_constant=_refused, parse_float=_finite)


def _refused(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is out of range")
    return value


def make_integer(raw: Any, error: msgspec.ValidationError) -> bool:
    """Turn the number that `error` is about into an integer, within `raw`; false: it cannot be, or it is about none."""
    found = _FRACTION.fullmatch(str(error))
    if found is None:
        return False
    *path, name = found[1][1:].split(".")
    for step in path:
        raw = raw.get(step) if isinstance(raw, dict) else None
    value = raw.get(name) if isinstance(raw, dict) else None
    # Of a name that stands twice, `raw` holds the second. Above 2^53 nobody knows which integer was meant.
    if not isinstance(value, float) or not value.is_integer() or abs(value) > 2**53:
        return False
    raw[name] = int(value)
    return True


def _with_integers(decode: Callable[[Payload], T], payload: Payload, error: msgspec.ValidationError) -> T:
    """Read again what was refused with `error`, if all that is wrong with it is how its integers are written."""
    try:
        raw = msgspec.json.decode(payload) if _FRACTION.fullmatch(str(error)) else None
    except msgspec.ValidationError:
        # A number that is too large, of a name that nobody knows.
        raw = None
    while make_integer(raw, error):
        try:
            return decode(msgspec.json.encode(raw))
        except msgspec.ValidationError as following:
            error = following
    raise error from None


def _has_half_a_pair(payload: Payload) -> bool:
    raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else bytes(payload)
    return _HALF.search(_PAIR.sub(b"", raw)) is not None


_anything = decoder(Any)
