"""`--watch`, when the gateway ends while one looks."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.drain import command
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
    command._watch(Ending("draining", "terminating"))
    assert capsys.readouterr().out.splitlines()[-1] == "the gateway has stopped"


def test_one_that_was_not_is_missed() -> None:
    with pytest.raises(UnreachableError):
        command._watch(Ending("draining"))
