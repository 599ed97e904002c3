"""A recording of arrivals: a file of JSON lines that says what came when, and nothing of who or where.

The first line is the header `{"kind":"header","version":1}`. Every other line has `at_ms`, whole milliseconds since the
recording began, never less than in the line before:

| `kind` | also has |
| --- | --- |
| `connect` | `device`, `connection`, `class` (one that the settings know; absent: none) |
| `disconnect` | `device`, `connection`, `code` (1006: no close frame was seen) |
| `message` | `device`, `connection`, `type`, `events` (absent: 0), `bytes` of the text |
| `dropped` | `lines` that are missing here, because the disk was too slow |

`device` is 16 hexadecimal digits: account and device hashed together with a key that exists only while the recorder
runs, so the same device is the same within a file and nowhere else. `connection` counts from 1. `type` is one of
`TYPES` or `other`, since a client may write anything there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import RecordingError
from gateway.protocol.messages import decode_typed
from gateway.protocol.requests import KNOWN

VERSION: Final = 1
TYPES: Final = KNOWN
OTHER: Final = "other"
KINDS: Final = ("connect", "disconnect", "message", "dropped")

Moment = Annotated[int, Meta(ge=0, le=10**12)]
Hashed = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
Number = Annotated[int, Meta(ge=1, le=2**53)]
Count = Annotated[int, Meta(ge=0, le=2**31)]
Word = Annotated[str, Meta(max_length=64)]


class Header(Struct, frozen=True, tag="header", tag_field="kind", gc=False, forbid_unknown_fields=True):
    version: int


class Connected(
    Struct, frozen=True, tag="connect", tag_field="kind", gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """A device was welcomed."""

    at_ms: Moment
    device: Hashed
    connection: Number
    device_class: Word = msgspec.field(default="", name="class")


class Disconnected(Struct, frozen=True, tag="disconnect", tag_field="kind", gc=False, forbid_unknown_fields=True):
    """A connection ended."""

    at_ms: Moment
    device: Hashed
    connection: Number
    code: Annotated[int, Meta(ge=1000, le=4999)]


class Said(
    Struct, frozen=True, tag="message", tag_field="kind", gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """A device sent a whole text message."""

    at_ms: Moment
    device: Hashed
    connection: Number
    type: Word
    bytes: Count
    events: Count = 0


class Dropped(Struct, frozen=True, tag="dropped", tag_field="kind", gc=False, forbid_unknown_fields=True):
    """So many lines are missing here."""

    at_ms: Moment
    lines: Count


Line = Connected | Disconnected | Said | Dropped

encode_lines = msgspec.json.Encoder().encode_lines
_decode = msgspec.json.Decoder(Line).decode
_decode_header = msgspec.json.Decoder(Header).decode


class _Counted(Struct, frozen=True):
    events: list[Raw]


_decode_counted = msgspec.json.Decoder(_Counted).decode


def hashed(key: bytes, account: str, device: str) -> str:
    """What stands for a device in a recording; `key` has 1 to 64 bytes and must not be kept."""
    name = account.encode("utf-8", "surrogatepass")
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    text = len(name).to_bytes(4, "big") + name + device.encode("utf-8", "surrogatepass")
    return blake2b(text, key=key, digest_size=8).hexdigest()


def measure(payload: bytes) -> tuple[str, int]:
    """The type of a message and how many location events it has, whether they are valid or not."""
    try:
        kind = decode_typed(payload).type
        if kind == "location":
            return kind, 1
        if kind == "locations":
            return kind, len(_decode_counted(payload).events)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return OTHER, 0
    return (kind if kind in TYPES else OTHER), 0


def read(lines: Iterable[bytes], name: str) -> Iterator[Line]:
    """The lines of a recording, after its header. A last line that was cut off by a crash is left out.

    `name` is the file's, for the message. Raises RecordingError naming the line, what is wrong, and what is allowed.
    """
    number, last_ms = 0, 0
    for number, text in enumerate(lines, 1):
        if number == 1:
            _check_header(text, name)
            continue
        try:
            line = _decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if not text.endswith(b"\n"):
                return
            allowed = f"allowed is a JSON object whose kind is {', '.join(KINDS)}"
            raise RecordingError(f"{name}, line {number}: {error}; {allowed}") from error
        if line.at_ms < last_ms:
            raise RecordingError(
                f"{name}, line {number}: at_ms is {line.at_ms}, less than {last_ms} in the line before; lines are in "
                "the order of time"
            )
        last_ms = line.at_ms
        yield line
    if number == 0:
        raise RecordingError(f"{name} is empty; {_HEADER_ALLOWED}")


_HEADER_ALLOWED: Final = f'the first line of a recording is {{"kind":"header","version":{VERSION}}}'


def _check_header(text: bytes, name: str) -> None:
    try:
        version = _decode_header(text).version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"{name}, line 1: {error}; {_HEADER_ALLOWED}") from error
    if version != VERSION:
        raise RecordingError(f"{name}, line 1: version {version} is not known; this program reads {VERSION}")
