"""Reading JSON that a peer sent: whatever is wrong with it is one kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")
Payload = bytes | str | msgspec.Raw


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

    return read
