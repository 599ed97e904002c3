"""Where a run stands on a terminal, and the picture of a definition."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from gateway.cli.workflow_board import Board
from gateway.workflows.drawing import layers, svg

NOW_MS = 1_800_000_000_000


def board(*events: dict[str, Any], nodes: tuple[str, ...] = ("extract", "load", "report")) -> Board:
    made = Board("nightly r1", nodes)
    for offset, data in enumerate(events, 1):
        made.hear({"offset": offset, "time": NOW_MS, "data": data})
    return made


def lines(made: Board, **nested: Board) -> list[str]:
    return list(made.lines(NOW_MS, nested))


def test_nodes_stand_in_their_order_whether_they_have_begun_or_not() -> None:
    found = lines(board({"kind": "run_started"}, {"kind": "attempt_started", "node": "extract", "attempt": 1}))
    assert found[0].startswith("▶ nightly r1  running")
    assert found[0].endswith("0 of 3")
    assert [line.split()[1] for line in found[1:]] == ["extract", "load", "report"]
    assert found[1].split()[0] == "▶"


def test_a_wait_counts_down_and_progress_is_a_bar() -> None:
    waits = {"kind": "node_waiting", "node": "extract", "attempt": 2, "until": NOW_MS + 12_400, "error": "exit code 7"}
    found = lines(board({"kind": "attempt_started", "node": "extract", "attempt": 2}, waits))
    assert "attempt 2" in found[1]
    assert "goes on in 12 s" in found[1]
    assert "exit code 7" in found[1]
    half = {"kind": "progress", "node": "extract", "attempt": 1, "percent": 50.0, "message": "rows\x1b[2J"}
    found = lines(board({"kind": "attempt_started", "node": "extract", "attempt": 1}, half))
    assert "██████████░░░░░░░░░░ 50 %" in found[1]
    assert "\x1b" not in found[1]


def test_items_that_are_not_over_are_shown_and_the_others_counted() -> None:
    events = [{"kind": "node_started", "node": "load", "total": 20}]
    for number in range(12):
        events.append({"kind": "attempt_started", "node": "load", "iteration": number, "attempt": 1})
    events += [
        {"kind": "node_ok", "node": "load", "iteration": 0},
        {"kind": "node_failed", "node": "load", "iteration": 1},
    ]
    found = lines(board(*events))
    assert "2 of 20, 1 failed" in found[2]
    assert [line.split()[1] for line in found[3:11]] == [f"load[{number}]" for number in range(2, 10)]
    assert found[11].strip() == "… and 2 more"


def test_of_a_node_that_repeats_nobody_knows_how_often() -> None:
    made = Board("poll r1", ("poll",), ("poll",))
    events: list[dict[str, Any]] = [{"kind": "node_started", "node": "poll", "total": 100}]
    events += [{"kind": "node_ok", "node": "poll", "iteration": number} for number in range(3)]
    for offset, data in enumerate(events, 1):
        made.hear({"offset": offset, "time": NOW_MS, "data": data})
    assert list(made.lines(NOW_MS, {}))[1].endswith("3 times, 100 at most")


def test_a_nested_run_stands_below_its_node_while_it_is_at_work() -> None:
    begins = {"kind": "attempt_started", "node": "load", "attempt": 1, "run": "r2"}
    outer, inner = board(begins), Board("cleanup r2", ("sweep",))
    assert outer.nested() == ["r2"]
    assert any("cleanup r2" in line for line in lines(outer, r2=inner))
    outer.hear({"offset": 2, "time": NOW_MS, "data": {"kind": "node_ok", "node": "load"}})
    assert outer.nested() == []
    assert not any("cleanup r2" in line for line in lines(outer, r2=inner))


def test_a_resumed_run_goes_on() -> None:
    made = board({"kind": "run_failed", "error": "load: exit code 1"})
    assert made.is_over
    made.hear({"offset": 2, "time": NOW_MS, "data": {"kind": "run_resumed"}})
    assert not made.is_over


def node(name: str, *needs: str, runner: str = "process") -> dict[str, Any]:
    return {"name": name, "needs": list(needs), "runner": runner}


def test_a_layer_is_as_far_from_the_beginning_as_its_longest_way() -> None:
    assert layers({"a": [], "b": ["a"], "c": ["a", "b"], "d": []}) == [["a", "d"], ["b"], ["c"]]
    # Near what they need: lines do not cross for nothing.
    assert layers({"a": [], "b": [], "y": ["b"], "x": ["a"]})[1] == ["x", "y"]


def test_the_picture_is_whole_and_quotes_what_it_is_given() -> None:
    nodes = [node("a"), node("<b>&", "a", runner="workflow"), node("c", "a", "<b>&")]
    spec = {"nodes": {"a": {"for_each": {"items": []}, "retry": {"max_attempts": 5}}}}
    root = ET.fromstring(svg("x <script>", nodes, spec))
    tag = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{tag}g")) == 3
    assert len(root.findall(f"{tag}path")) == 3
    texts = [text.text for text in root.iter(f"{tag}text")]
    assert "<b>&" in texts
    assert any("each item" in (text or "") for text in texts)
    assert not list(root.iter(f"{tag}script"))
    # Boxes do not lie on each other.
    corners = {(box.get("x"), box.get("y")) for box in root.iter(f"{tag}rect")}
    assert len(corners) == 3
