"""What the simulated device answers to commands."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.device.answering import MAX_SLOW_S, Appliance


def told(name: str, args: Any = None) -> list[dict[str, Any]]:
    return [step.message for step in Appliance().carry_out("c", name, args)]


def test_a_switch_is_remembered() -> None:
    lamp = Appliance()
    (step,) = lamp.carry_out("c", "switch", {"on": True})
    assert step.message == {"type": "result", "command": "c", "ok": True, "value": {"on": True}}
    (again,) = lamp.carry_out("c", "switch", None)
    assert again.message["value"] == {"on": False}


def test_reports_come_before_the_result() -> None:
    messages = told("report", {"s": 0})
    assert [message["type"] for message in messages] == ["report"] * 4 + ["result"]
    assert [message["percent"] for message in messages[:4]] == [25, 50, 75, 100]


@pytest.mark.parametrize(
    ("args", "wait_s"), [({"s": 5}, 5.0), ({"s": -1}, 0.0), ({"s": 1e9}, MAX_SLOW_S), ({"s": True}, 1.0), ("x", 1.0)]
)
def test_slow_is_bounded(args: Any, wait_s: float) -> None:
    (step,) = Appliance().carry_out("c", "slow", args)
    assert step.after_s == wait_s


@pytest.mark.parametrize(
    ("name", "args", "code"), [("fail", {"code": "jammed"}, "jammed"), ("fly", None, "unknown_command")]
)
def test_errors_are_results(name: str, args: Any, code: str) -> None:
    (message,) = told(name, args)
    assert (message["ok"], message["error"]["code"]) == (False, code)
