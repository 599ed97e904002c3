"""Logs: fields, formats, and a reader that stands still."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading

import pytest

from gateway.telemetry.log import Log
from gateway.telemetry.output import Background, logging_to_stderr


def test_json_lines_have_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with logging_to_stderr("info", "json"):
        Log("connections").info("disconnect", reason="eof", code=1006)
        Log("connections").debug("unseen")
    (line,) = written.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "info", "part": "connections", "event": "disconnect", "reason": "eof", "code": 1006}


def test_an_exception_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with logging_to_stderr("info", "json"):
        Log("app").error("failed", exc_info=ValueError("why"))
    assert "ValueError: why" in json.loads(written.getvalue())["exception"]


def test_what_libraries_say_about_requests_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with logging_to_stderr("info", "json"):
        logging.getLogger("aiohttp.server").error("Error handling request from %s", "peer")
        logging.getLogger("asyncio").error("told %s", "Bearer 123.456")
    (line,) = written.getvalue().splitlines()
    assert json.loads(line)["event"] == "told Bearer [redacted]"


def test_a_library_cannot_flood_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with logging_to_stderr("info", "json"):
        for number in range(500):
            logging.getLogger("asyncio").error("again %d", number)
            Log("app").info("ours")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    events = [line["event"] for line in lines]
    assert events.count("ours") == 500
    again = sum(event.startswith("again") for event in events)
    assert 100 <= again <= 150
    assert sum(line["lines"] for line in lines if line["event"] == "log_lines_dropped") in range(
        499 - again, 501 - again
    )


def test_a_record_that_cannot_be_put_into_words_is_not_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with logging_to_stderr("info", "json"):
        logging.getLogger("asyncio").error("%d", "Bearer secret-of-a-device")
        Log("app").info("after")
    assert "secret" not in written.getvalue() + capsys.readouterr().err
    assert '"event":"after"' in written.getvalue()


class Stuck(io.StringIO):
    """A log file whose reader stands still until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        assert self.go.wait(30)
        return super().write(text)


def test_a_reader_that_stands_still_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck()
    monkeypatch.setattr(sys, "stderr", stuck)
    handler = Background()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for number in range(Background.MAX_LINES + 500):
        handler.emit(logging.makeLogRecord({"name": "heiwa", "msg": f"line {number}"}))
    stuck.go.set()
    handler.close()
    lines = stuck.getvalue().splitlines()
    dropped = [json.loads(line)["lines"] for line in lines if line.startswith("{")]
    assert sum(dropped) in (499, 500)
    assert len(lines) - len(dropped) == Background.MAX_LINES + 500 - sum(dropped)
