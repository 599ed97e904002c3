"""Where a run stands, worked out from its events, and drawn as lines of text. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from gateway.cli.workflow_text import MARKS, plain

MAX_ITEMS = 8
BAR = 20
_STATUS = {
    "attempt_started": "running",
    "attempt_submitted": "running",
    "progress": "running",
    "node_started": "running",
    "node_waiting": "waiting",
    "node_stopping": "stopping",
    "node_ok": "ok",
    "node_failed": "failed",
    "node_skipped": "skipped",
    "node_cancelled": "cancelled",
}
_RUN = {
    "run_started": "running",
    "run_resumed": "running",
    "run_failing": "failing",
    "run_cancelling": "cancelling",
    "run_ok": "ok",
    "run_failed": "failed",
    "run_cancelled": "cancelled",
}
_OVER = ("ok", "failed", "skipped", "cancelled")


class _Line:
    """A node, or one item or iteration of it."""

    def __init__(self) -> None:
        self.status = ""
        self.attempt = 0
        self.until: int | None = None
        self.percent: float | None = None
        self.said = ""
        # The nested run that it is.
        self.run: str | None = None

    def hear(self, data: Mapping[str, Any]) -> None:
        self.status = _STATUS.get(data["kind"], self.status)
        self.until = data.get("until")
        if data["kind"] == "attempt_started":
            self.attempt, self.percent, self.said = data.get("attempt", 0), None, ""
            self.run = data.get("run")
        self.percent = data.get("percent", self.percent)
        self.said = data.get("message") or data.get("error") or self.said


class _Node(_Line):
    def __init__(self) -> None:
        super().__init__()
        self.total: int | None = None
        self.repeats = False
        self.items: dict[int, _Line] = {}

    def count(self, *statuses: str) -> int:
        return sum(item.status in statuses for item in self.items.values())


class Board:
    """One run; `nodes` are its nodes in their order, `repeating` those whose iterations follow each other. `after` is
    the offset of the last event that was heard."""

    def __init__(self, title: str, nodes: Sequence[str], repeating: Collection[str] = ()) -> None:
        self.title = title
        self.status = "queued"
        self.error = ""
        self.after = 0
        self._nodes: dict[str, _Node] = {name: _Node() for name in nodes}
        for name in repeating:
            self._nodes[name].repeats = True

    def hear(self, event: Mapping[str, Any]) -> None:
        """The next event."""
        data = event["data"]
        self.after = event["offset"]
        if "node" not in data:
            self.status = _RUN.get(data["kind"], self.status)
            self.error = data.get("error") or self.error
            return
        node = self._nodes.setdefault(data["node"], _Node())
        if "iteration" in data:
            node.items.setdefault(data["iteration"], _Line()).hear(data)
            return
        node.hear(data)
        node.total = data.get("total", node.total)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self.status in _OVER

    def nested(self) -> list[str]:
        """The nested runs that are at work."""
        lines = [line for node in self._nodes.values() for line in (node, *node.items.values())]
        return [line.run for line in lines if line.run is not None and line.status == "running"]

    def lines(self, now_ms: float, nested: Mapping[str, Board], indent: str = "") -> Iterator[str]:
        """One for the run, then one a node, the items of it that are not over, and nested runs."""
        done = sum(node.status in _OVER for node in self._nodes.values())
        head = f"{indent}{MARKS.get(self.status, '·')} {self.title}  {self.status}"
        yield f"{head}  {_bar(done, len(self._nodes))} {done} of {len(self._nodes)}{_after(self.error)}"
        for name, node in self._nodes.items():
            yield f"{indent}  {_of_node(name, node, now_ms)}"
            yield from _children(node, now_ms, nested, f"{indent}      ")
            shown = [number for number, item in sorted(node.items.items()) if item.status not in _OVER]
            for number in shown[:MAX_ITEMS]:
                item = node.items[number]
                yield f"{indent}    {_of_line(f'{name}[{number}]', item, now_ms)}"
                yield from _children(item, now_ms, nested, f"{indent}        ")
            if len(shown) > MAX_ITEMS:
                yield f"{indent}    … and {len(shown) - MAX_ITEMS} more"


def _children(line: _Line, now_ms: float, nested: Mapping[str, Board], indent: str) -> Iterator[str]:
    if line.run is not None and line.status == "running" and line.run in nested:
        yield from nested[line.run].lines(now_ms, nested, indent)


def _of_node(name: str, node: _Node, now_ms: float) -> str:
    text = _of_line(name, node, now_ms)
    if node.total is None and not node.items:
        return text
    over, failed = node.count(*_OVER), node.count("failed")
    if node.repeats:
        # How many there will be nobody knows.
        return f"{text}  {len(node.items)} times, {node.total} at most"
    total = node.total if node.total is not None else len(node.items)
    return f"{text}  {_bar(over, total)} {over} of {total}" + (f", {failed} failed" if failed else "")


def _of_line(name: str, line: _Line, now_ms: float) -> str:
    parts = [f"{MARKS.get(line.status, '·')} {name:<24} {line.status:<9}"]
    if line.attempt > 1:
        parts.append(f"attempt {line.attempt}")
    if line.until is not None and line.status == "waiting":
        parts.append(f"goes on in {max(0.0, (line.until - now_ms) / 1000):.0f} s")
    if line.percent is not None and line.status == "running":
        parts.append(f"{_bar(line.percent, 100)} {line.percent:.0f} %")
    if line.said and line.status != "ok":
        parts.append(plain(line.said)[:60])
    return "  ".join(parts).rstrip()


def _bar(done: float, total: float) -> str:
    filled = 0 if not total else min(BAR, int(BAR * done / total))
    return "█" * filled + "░" * (BAR - filled)


def _after(error: str) -> str:
    return f"  {plain(error)[:80]}" if error else ""
