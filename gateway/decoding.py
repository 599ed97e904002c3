"""Reading JSON that a peer sent: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")
Payload = bytes | str | msgspec.Raw
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def decoder(kind: type[T]) -> Callable[[Payload], T]:
    """A function that reads JSON as `kind`.

    It raises msgspec.ValidationError for JSON of another shape, and its base msgspec.DecodeError for all else: no JSON,
    text that is not UTF-8, brackets nested deeper than the interpreter goes.
    """
    decode = msgspec.json.Decoder(kind).decode

    def read(payload: Payload) -> T:
        try:
            return decode(payload)
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


def _has_half_a_pair(payload: Payload) -> bool:
    raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else bytes(payload)
    return _HALF.search(_PAIR.sub(b"", raw)) is not None
