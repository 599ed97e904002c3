"""Logs and metrics: one line per event with fixed field names, one registry per process.

Logging is the standard library's: structlog loads rich (5.5 MB) into every gateway, a tenth of what a whole process
may take.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.log import ROOT

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
        return _encode(line).decode()


class TextFormatter(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{moment} {record.levelname.lower():7} {record.name.removeprefix(f'{ROOT}.')}: {record.getMessage()}"
        if fields:
            text = f"{text}  {fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class Background(logging.Handler):
    """Hands lines to a thread that writes them: who reads our log may stand still, the event loop must not.

    Holds at most `MAX_LINES`; what comes above that is dropped, and how many were is written when there is room again.
    """

    MAX_LINES = 10_000

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str | None] = queue.Queue(self.MAX_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what is left, for at most two seconds."""
        try:
            self._lines.put(None, timeout=1)
        except queue.Full:
            pass
        else:
            self._thread.join(1)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                line = f"{line}\n{_encode({'event': 'log_lines_dropped', 'lines': dropped}).decode()}"
            try:
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # the other end is gone; there is nobody left to tell
                return


@contextlib.contextmanager
def logging_to_stderr(level: str, style: str) -> Iterator[None]:
    """Send all logs to standard error. `style`: auto (text on a terminal), json or text."""
    handler = Background()
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
    # Its Sans-I/O layer says "connection closed" for every connection; our own line has the reason.
    logging.getLogger("websockets").setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.handlers[:] = before
        handler.close()


class Collector(Protocol):
    """A part that counts in plain integers on the hot path and builds metric families only when scraped."""

    def collect(self) -> Iterable[Metric]: ...


def new_registry(*collectors: Collector) -> CollectorRegistry:
    """A registry of its own, so that several gateways can live in one test process."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return registry


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """A counter without labels; `_total` is added to its name when it is shown."""
    return CounterMetricFamily(name, text, value=value)


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
