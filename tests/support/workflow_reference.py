"""A naive interpreter of workflows: it looks at everything again after every event, and counts nothing.

It knows `needs`, `for_each` over a literal list, `repeat` until an attempt says so, retries, timeouts, `on_error`,
cancel and resume. Expressions are left to tests of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OVER = ("ok", "failed", "skipped", "cancelled")


@dataclass
class Item:
    status: str = "new"
    attempt: int = 0
    first: int = 1
    due_ms: int | None = None
    failed: bool = False
    ready: bool = False


class Reference:
    """`nodes` are the plain fields of a definition; times are ms."""

    def __init__(self, nodes: dict[str, Any], now_ms: int) -> None:
        self.nodes = nodes
        self.now_ms = now_ms
        self.status = "running"
        self.bad = False
        self.items: dict[tuple[str, int], Item] = {}
        self.begun: set[str] = set()
        self.over: dict[str, str] = {}
        self.allowed: dict[str, int] = {}
        self._go_on()

    # What happens

    def finish(self, path: str, iteration: int, ready: bool) -> None:
        item = self.items[path, iteration]
        item.status, item.ready, item.due_ms, item.failed = "ok", ready, None, False
        self._go_on()

    def fail(self, path: str, iteration: int) -> None:
        item, node = self.items[path, iteration], self.nodes[path]
        used = item.attempt - item.first + 1
        retry = node.get("retry", {"max_attempts": 1})
        item.due_ms = None
        if self.status == "cancelling":
            item.status = "cancelled"
        elif self.status == "running" and used < retry["max_attempts"]:
            item.status, item.due_ms = "waiting", self.now_ms + 1000 * retry["wait_s"]
        else:
            item.status, item.failed = ("skipped" if node["on_error"] == "skip" else "failed"), True
        self._go_on()

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        due = [(item.due_ms, key) for key, item in self.items.items() if item.due_ms is not None]
        for due_ms, key in sorted(due):
            item = self.items[key]
            if due_ms <= self.now_ms and item.due_ms == due_ms:
                if item.status == "waiting":
                    self._attempt(key)
                elif item.status == "running":
                    item.status, item.due_ms = "stopping", self.now_ms + 120_000
                elif item.status == "stopping":
                    self.fail(*key)
        self._go_on()

    def cancel(self) -> None:
        self.status, self.bad = "cancelling", True
        for item in self.items.values():
            if item.status == "waiting":
                item.status, item.due_ms = "cancelled", None
            elif item.status == "running":
                item.status, item.due_ms = "stopping", self.now_ms + 120_000
        self._go_on()

    def resume(self) -> None:
        self.status, self.bad = "running", False
        for path in [path for path, status in self.over.items() if status in ("failed", "cancelled")]:
            del self.over[path]
            self.begun.discard(path)
            node = self.nodes[path]
            mine = {key: item for key, item in self.items.items() if key[0] == path}
            if "repeat" in node and all(item.status == "ok" for item in mine.values()):
                # It gets as many iterations again, and the next one at once.
                self.allowed[path] = len(mine) + node["repeat"]["max_iterations"]
                self.items[path, len(mine)] = Item("ready")
        for item in self.items.values():
            if item.status in ("failed", "cancelled"):
                item.status, item.failed, item.first = "ready", False, item.attempt + 1
        self._go_on()

    # What follows

    def _go_on(self) -> None:
        while self._something():
            pass
        if self.status in ("ok", "failed", "cancelled") or any(
            item.status in ("running", "stopping", "waiting") for item in self.items.values()
        ):
            return
        if self.status == "cancelling":
            self.status = "cancelled"
        else:
            self.status = "failed" if self.bad else "ok"

    def _something(self) -> bool:
        """One thing that has to be done, if there is one."""
        for path, node in self.nodes.items():
            if path in self.over:
                continue
            free = all(needed in self.over for needed in node["needs"])
            if free and self.status == "running" and path not in self.begun:
                self.begun.add(path)
                return True
            if path in self.begun and self._of_node(path, node):
                return True
        return False

    def _of_node(self, path: str, node: dict[str, Any]) -> bool:
        total = len(node["for_each"]["items"]) if "for_each" in node else None
        mine = [self.items.get((path, number)) for number in range(total if total is not None else 10_000)]
        known = [item for item in mine if item is not None]
        at_work = [item for item in known if item.status in ("running", "stopping", "waiting")]
        halted = self.status != "running" or (node["on_error"] == "fail" and any(item.failed for item in known))
        if total is None:
            return self._of_single(path, node, known, bool(at_work))
        begins = [n for n, item in enumerate(mine) if item is not None and item.status == "ready"]
        begins += [n for n, item in enumerate(mine) if item is None]
        if begins and not halted:
            if len(at_work) < node["for_each"]["max_parallel"]:
                self._attempt((path, begins[0]))
                return True
            return False
        if at_work:
            return False
        if any(item.failed for item in known) and node["on_error"] != "skip":
            return self._end(path, "failed")
        if len(known) == total and all(item.status in ("ok", "skipped") for item in known):
            return self._end(path, "ok")
        return self._end(path, self._unfinished(node))

    def _of_single(self, path: str, node: dict[str, Any], known: list[Item], at_work: bool) -> bool:
        if at_work:
            return False
        if not known or known[-1].status == "ready":
            if self.status == "running":
                self._attempt((path, max(0, len(known) - 1)))
                return True
            return bool("repeat" in node and known and self._end(path, self._unfinished(node)))
        last = known[-1]
        if "repeat" not in node or last.status != "ok":
            return self._end(path, last.status)
        if last.ready:
            return self._end(path, "ok")
        if len(known) >= self.allowed.get(path, node["repeat"]["max_iterations"]):
            return self._end(path, "skipped" if node["on_error"] == "skip" else "failed")
        if self.status == "running":
            self.items[path, len(known)] = Item("waiting", due_ms=self.now_ms + 1000 * node["repeat"]["wait_s"])
            return True
        return self._end(path, self._unfinished(node))

    def _unfinished(self, node: dict[str, Any]) -> str:
        if self.status == "cancelling":
            return "cancelled"
        return "skipped" if node["on_error"] == "skip" else "failed"

    def _attempt(self, key: tuple[str, int]) -> None:
        item = self.items.setdefault(key, Item())
        timeout_s = self.nodes[key[0]].get("timeout_s")
        item.status, item.attempt = "running", item.attempt + 1
        item.due_ms = None if timeout_s is None else self.now_ms + 1000 * timeout_s

    def _end(self, path: str, status: str) -> bool:
        self.over[path] = status
        if status == "failed":
            self.bad = True
            if self.nodes[path]["on_error"] == "fail" and self.status == "running":
                self.status = "failing"
                for key, item in self.items.items():
                    if item.status == "waiting":
                        skip = self.nodes[key[0]]["on_error"] == "skip"
                        item.status, item.due_ms, item.failed = "skipped" if skip else "failed", None, True
        return True
