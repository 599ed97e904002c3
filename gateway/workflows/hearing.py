"""What signals mean for a run, and what of the words of runners can be kept."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.workflows.records import Signal, SignalKind
from gateway.workflows.run import Attempt
from gateway.workflows.states import RunStatus
from gateway.workflows.step import Begin, Cancel, Failed, Finished, Happening, Progress, Resume, Submitted


def readable(happening: Happening) -> Happening:
    """The same, if it can be stored. Programs and services may send half of a surrogate pair, which is no text, and
    U+0000, which PostgreSQL keeps in no text."""
    if isinstance(happening, Finished):
        try:
            msgspec.json.encode(happening.value)
        except UnicodeEncodeError:
            return Failed(happening.attempt, "the result holds half of a surrogate pair, which is no text", again=False)
    elif isinstance(happening, Failed):
        return happening._replace(error=_text(happening.error))
    elif isinstance(happening, Progress) and happening.message is not None:
        return happening._replace(message=_text(happening.message))
    elif isinstance(happening, Submitted):
        return happening._replace(external=_text(happening.external))
    elif isinstance(happening, Cancel):
        return happening._replace(why=_text(happening.why))
    return happening


def _text(said: str) -> str:
    return said.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def happening_of(signal: Signal) -> Happening:
    """What the run is told. Raises ValueError, KeyError or TypeError for what is of a later version, or damaged."""
    return readable(_happening_of(signal))


def _happening_of(signal: Signal) -> Happening:
    if signal.kind is SignalKind.UNREADABLE:
        raise ValueError("what was told cannot be read")
    if signal.kind is SignalKind.BEGIN:
        return Begin()
    if signal.kind is SignalKind.CANCEL:
        return Cancel(signal.body)
    if signal.kind is SignalKind.RESUME:
        return Resume()
    attempt = Attempt(*signal.body["attempt"])
    if signal.kind is SignalKind.CHILD:
        return _of_child(attempt, signal.body)
    return _of_report(attempt, signal.body)


def _of_child(attempt: Attempt, body: dict[str, Any]) -> Happening:
    if body["status"] == RunStatus.OK:
        return Finished(attempt, body["output"])
    ended = f"the nested run {body['status']}" if body["status"] else "the nested run did not begin"
    error = f"{ended}: {body['error']}" if body["error"] else ended
    # One that was cancelled, or has no definition, would not fare better.
    return Failed(attempt, error, again=body["status"] == RunStatus.FAILED or body.get("again", False))


def _of_report(attempt: Attempt, body: dict[str, Any]) -> Happening:
    if "ok" not in body:
        return Progress(attempt, body.get("percent"), body.get("message"))
    return Finished(attempt, body.get("value")) if body["ok"] else _failed(attempt, body)


def _failed(attempt: Attempt, body: dict[str, Any]) -> Failed:
    return Failed(attempt, body.get("error") or "failed", again=body.get("again", True))
