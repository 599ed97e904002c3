"""`--watch`: what it shows, and when the gateway ends while one looks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.cli import drain as command
from gateway.errors import UnreachableError


class Ending:
    """A gateway that is in these states, and then is gone."""

    def __init__(self, *states: str) -> None:
        self._states = list(states)

    def status(self) -> dict[str, Any]:
        if not self._states:
            raise UnreachableError("cannot be reached")
        return {"state": self._states.pop(0), "remaining": 3, "progress": {"sent_away": 4}}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_EVERY_S", 0)


def test_a_gateway_that_was_stopping_has_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    command._watch(Ending("draining", "terminating"), False)
    assert capsys.readouterr().out.splitlines()[-1] == "the gateway has stopped"


def test_one_that_was_not_is_missed() -> None:
    with pytest.raises(UnreachableError):
        command._watch(Ending("draining"), False)


class Drained:
    """A gateway that sends two away, and three more, and is drained."""

    def __init__(self) -> None:
        self._told = [
            {"state": "draining", "remaining": 3, "progress": {"sent_away": 2}, "receipt": None},
            {"state": "drained", "remaining": 0, "progress": None, "receipt": {"sent_away": 5}},
        ]

    def status(self) -> dict[str, Any]:
        return self._told.pop(0)


def test_the_last_second_of_a_drain_counts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "describe", lambda found: "")
    command._watch(Drained(), False)
    assert "3/s" in capsys.readouterr().out


def test_as_json_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    command._watch(Drained(), True)
    said, at, found = capsys.readouterr().out, 0, []
    while at < len(said.rstrip()):
        one, at = json.JSONDecoder().raw_decode(said, at)
        found.append(one["state"])
        at += 1
    assert found == ["draining", "drained"]
