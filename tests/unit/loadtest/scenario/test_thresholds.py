"""Thresholds: parsed, judged with margins, and never passed by not measuring."""

from __future__ import annotations

import pytest

from gateway.errors import SettingsError
from loadtest.scenario import thresholds
from loadtest.scenario.metrics import FIGURES, FROM_STORES


@pytest.mark.parametrize(
    ("text", "value", "held", "margin"),
    [
        ("ack_p99_ms < 200", 150.0, True, 50.0),
        ("ack_p99_ms < 200", 200.0, False, 0.0),
        ("ack_p99_ms <= 200", 200.0, True, 0.0),
        ("acked > 10", 11, True, 1),
        ("acked >= 10", 9, False, -1),
        ("lost == 0", 0, True, 0),
        ("lost == 0", 3, False, -3),
        ("nacked != 0", 2, True, 2),
        ("connects<1e3", 999, True, 1),
        ("devices == 200_000", 200_000, True, 0),
    ],
)
def test_a_value_is_judged_with_its_margin(text: str, value: float, held: bool, margin: float) -> None:
    threshold = thresholds.parse(text)
    verdict = thresholds.judge(threshold, {threshold.name: value})
    assert (verdict.held, verdict.margin, verdict.value) == (held, margin, value)


def test_a_figure_may_be_the_limit() -> None:
    threshold = thresholds.parse("connected_min == devices")
    assert thresholds.judge(threshold, {"connected_min": 5, "devices": 5}).held
    verdict = thresholds.judge(threshold, {"connected_min": 4, "devices": 5})
    assert (verdict.held, verdict.limit, verdict.margin) == (False, 5, -1)


def test_what_was_not_measured_is_missed() -> None:
    verdict = thresholds.judge(thresholds.parse("ack_p99_ms < 200"), {"ack_p99_ms": None})
    assert verdict.held is False
    assert "nothing was measured" in thresholds.line(verdict)


@pytest.mark.parametrize("name", FROM_STORES)
def test_what_only_the_stores_know_is_not_judged_without_them(name: str) -> None:
    verdict = thresholds.judge(thresholds.parse(f"{name} == 0"), {})
    assert verdict.held is None
    assert "not judged" in thresholds.line(verdict)


@pytest.mark.parametrize("text", ["", "lost", "lost = 0", "lost == ", "lost == 0 0", "LOST == 0", "0 == lost"])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="thresholds"):
        thresholds.parse(text)


@pytest.mark.parametrize(("text", "near"), [("los == 0", "lost"), ("lost == device", "devices")])
def test_an_unknown_figure_names_the_nearest(text: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"did you mean {near}"):
        thresholds.parse(text)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_a_threshold(name: str) -> None:
    text = f"{name} < 1.5"
    assert str(thresholds.parse(text)) == text


def test_a_line_has_value_and_margin() -> None:
    [verdict] = thresholds.judge_all(["ack_p99_ms < 200"], {"ack_p99_ms": 1234.5})
    assert thresholds.line(verdict) == "MISSED ack_p99_ms < 200: 1,234.5, margin -1,034.5"


def test_a_missed_figure_says_what_is_known_of_it() -> None:
    texts, values = ["ack_p99_ms < 200", "lost == 0"], {"ack_p99_ms": 1234.5, "lost": 0.0}
    missed, held = thresholds.judge_all(texts, values, {"ack_p99_ms": "a pause", "lost": "never said"})
    assert thresholds.line(missed).endswith("(a pause)")
    assert held.note == ""
