"""A log record as a line: JSON or text, without secrets, of bounded size, one record a line. Pure.

What a library writes about a request holds what the peer has sent: whatever the line is made of, it is looked through
as a whole.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import msgspec

from gateway.telemetry.log import ROOT

MAX_LINE_CHARS = 4096
_MAX_VALUE_CHARS = 2048
_SHORT_CHARS = 200
# A JWT by its header, which is a JSON object; by its three parts; whatever follows the words that announce a token.
# Escapes within one (`\x00`, `\\u0000`) belong to it.
_PART = r"(?:[\w=-]|\\+[xu])"
_SECRET = re.compile(
    rf"(?P<keep>(?<![\w-])(?:bearer|access_token)(?:[ .:=]|%20)+)(?:[^\s\"',;\\]|\\+[xu])+"
    rf"|(?-i:eyJ){_PART}{{6,}}(?:\.{_PART}*){{0,4}}"
    rf"|(?<![\w-])[\w-]{{10,}}\.[\w-]{{16,}}\.[\w-]{{40,}}",
    re.IGNORECASE | re.ASCII,
)
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `part`, `event`, then the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix(f"{ROOT}."),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        for limit in (_MAX_VALUE_CHARS, _SHORT_CHARS):
            text = redact(_encode({key: _short(value, limit) for key, value in line.items()}).decode())
            if len(text) <= MAX_LINE_CHARS:
                return text
        few = {key: _short(line[key], _SHORT_CHARS) for key in ("time", "level", "part", "event")}
        return redact(_encode({**few, "fields_left_out": len(line) - len(few)}).decode())


class TextFormatter(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{moment} {record.levelname.lower():7} {record.name.removeprefix(f'{ROOT}.')}: {record.getMessage()}"
        if fields:
            text = f"{text}  {fields}"
        # The lines of a traceback are indented: none of them can look like a line of the log.
        trace = self.formatException(record.exc_info).split("\n") if record.exc_info else []
        return cut(redact(cut("\n  ".join(_printable(line) for line in (text, *trace)))))


def redact(text: str) -> str:
    """The text without anything that looks like a token."""
    return _SECRET.sub(lambda found: f"{found['keep'] or ''}[redacted]", text)


def cut(text: str, limit: int = MAX_LINE_CHARS) -> str:
    """At most `limit` characters: the beginning and the end, and how many there were."""
    if len(text) <= limit:
        return text
    mark = f" … {len(text)} characters … "
    kept = (limit - len(mark)) // 2
    return f"{text[:kept]}{mark}{text[-kept:]}"


def _short(value: object, limit: int) -> object:
    """A field's value, bounded. Redacted before it is cut: half a token is no longer recognised."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else _encode(value).decode()
    if len(text) <= limit:
        return value
    return cut(redact(cut(text, 8 * limit)), limit)


def _printable(text: str) -> str:
    """The text with what does not print escaped: a name must neither end a line nor draw on the terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
