"""Runs, events and graphs as lines of text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

MARKS = {"ok": "✓", "failed": "✗", "skipped": "–", "cancelled": "⊘", "running": "▶", "waiting": "…", "stopping": "■"}
_WORDS = {
    "run_started": "the run begins",
    "run_failing": "the run fails; nothing new begins",
    "run_cancelling": "the run is cancelled; what is at work is told to stop",
    "run_resumed": "the run is resumed",
    "run_ok": "the run is done",
    "run_failed": "the run has failed",
    "run_cancelled": "the run has been cancelled",
    "node_started": "begins",
    "node_waiting": "waits",
    "node_stopping": "is told to stop",
    "node_ok": "done",
    "node_failed": "failed",
    "node_skipped": "skipped",
    "node_cancelled": "cancelled",
    "attempt_started": "attempt {attempt}",
    "attempt_submitted": "attempt {attempt} is at work",
    "progress": "is at work",
}


def graph(nodes: list[dict[str, Any]]) -> str:
    """One line a node, each behind those that it needs, in columns of how many steps away from the beginning it is."""
    depths: dict[str, int] = {}
    lines = []
    for node in nodes:
        depths[node["name"]] = depth = max((depths[needed] + 1 for needed in node["needs"]), default=0)
        behind = f" ◀ {', '.join(node['needs'])}" if node["needs"] else ""
        lines.append(f"{'    ' * depth}{node['name']} ({node['runner']}){behind}")
    return "\n".join(lines)


def mistake(file: str, error: Mapping[str, Any]) -> str:
    """A mistake with its place, in the form that editors jump to."""
    place = f"{error['line']}:{error['column']}: " if "line" in error else ""
    return f"{file}:{place}{error['field']}: {plain(error['problem'])}"


def one_line(run: dict[str, Any]) -> str:
    """A run in a list."""
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["created"] / 1000))
    error = f"  {plain(run['error'])}" if run["error"] else ""
    return f"{run['id']}  {begun}  {run['status']:<10}  {run['definition']} {run['version']}{error}"


def describe(found: dict[str, Any]) -> str:
    """A whole run: a line for itself, and one for each node, item and iteration that has begun."""
    lines = [one_line(found["run"])]
    for node in found["nodes"]:
        name = node["node"] if node.get("iteration") is None else f"  {node['node']}[{node['iteration']}]"
        parts = [f"  {MARKS.get(node['status'], ' ')} {name:<28} {node['status']:<9}"]
        if node.get("total") is not None:
            parts.append(f"{node['ok']} of {node['total']}" + (f", {node['failed']} failed" if node["failed"] else ""))
        if node.get("attempt", 0) > 1:
            parts.append(f"attempt {node['attempt']}")
        if node.get("run"):
            parts.append(f"run {node['run']}")
        if node.get("error"):
            parts.append(plain(node["error"]))
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def event_line(event: Mapping[str, Any]) -> str:
    """What happened, with its time and offset."""
    at, data = time.strftime("%H:%M:%S", time.localtime(event["time"] / 1000)), event["data"]
    said = _WORDS.get(data["kind"], data["kind"]).format(attempt=data.get("attempt"))
    where = ""
    if "node" in data:
        where = data["node"] if "iteration" not in data else f"{data['node']}[{data['iteration']}]"
    parts = [f"{at} {event['offset']:>5}  {where:<20} {said}"]
    if "total" in data:
        parts.append(f"{data['total']} in all")
    if "percent" in data:
        parts.append(f"{data['percent']:.0f} %")
    if "until" in data:
        parts.append(f"until {time.strftime('%H:%M:%S', time.localtime(data['until'] / 1000))}")
    parts += [plain(data[name]) for name in ("message", "error") if data.get(name)]
    if "run" in data:
        parts.append(f"run {data['run']}")
    return ": ".join(parts)


def plain(text: str) -> str:
    """On one line, and without what would draw on the terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:300]
