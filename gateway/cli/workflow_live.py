"""`--watch` on a terminal: where the run stands, drawn anew each second; goes on over a restart of the gateway."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from shutil import get_terminal_size
from typing import Any
from urllib.parse import quote, urlencode

from gateway.cli.workflow_board import Board
from gateway.errors import RefusedError, UnreachableError

_RUNS = "/api/v1/workflows"
# Between two pictures; the gateway holds the question for as long.
_WAIT_S = 1
_PAGE = 500
# Nested runs that are asked for: of each picture so many, so deep.
MAX_NESTED, MAX_DEPTH = 8, 3


class Live:
    """`watch` draws until the run is over. Raises RefusedError where there is no such run."""

    def __init__(self, remote: Any, path: str) -> None:
        self._remote = remote
        self._path = path
        self._nested: dict[str, Board] = {}
        self._drawn = 0

    def watch(self) -> str:
        """How it ended."""
        board: Board | None = None
        while board is None or not board.is_over:
            try:
                board = self._board(self._path) if board is None else board
                self._ask(self._path, board, _WAIT_S)
                self._follow(board, MAX_DEPTH)
            except (UnreachableError, RefusedError) as error:
                # One that has just started may not have opened its store.
                if isinstance(error, RefusedError) and error.status != 503:
                    raise
                self._draw([*self._lines(board), f"the gateway is away, trying again each second: {error}"])
                time.sleep(_WAIT_S)
                continue
            self._draw(self._lines(board))
        return board.status

    def _board(self, path: str) -> Board:
        run = self._remote.call("GET", path)["run"]
        query = urlencode({"version": run["version"]})
        definition = self._remote.call("GET", f"/api/v1/definitions/{quote(run['definition'])}?{query}")
        repeating = [name for name, node in definition["spec"]["nodes"].items() if node.get("repeat")]
        return Board(f"{run['definition']} {run['id']}", [node["name"] for node in definition["nodes"]], repeating)

    def _ask(self, path: str, board: Board, wait_s: int) -> None:
        """What has happened since."""
        while True:
            query = urlencode({"after": board.after, "limit": _PAGE, "wait_s": wait_s})
            found = self._remote.call("GET", f"{path}/events?{query}", timeout_s=wait_s + 10.0)
            for event in found["events"]:
                board.hear(event)
            if len(found["events"]) < _PAGE:
                return

    def _follow(self, board: Board, depth: int) -> None:
        for run in board.nested()[:MAX_NESTED] if depth else ():
            path = f"{_RUNS}/{quote(run, safe='')}"
            try:
                if run not in self._nested:
                    self._nested[run] = self._board(path)
                self._ask(path, self._nested[run], 0)
            except RefusedError:
                # It begins in a moment.
                continue
            self._follow(self._nested[run], depth - 1)

    def _lines(self, board: Board | None) -> Iterator[str]:
        if board is not None:
            yield from board.lines(time.time() * 1000, self._nested)

    def _draw(self, lines: Any) -> None:
        """Over the last picture; what does not fit on the terminal is left out."""
        width, height = get_terminal_size()
        shown = [line[: width - 1] for line in lines]
        if len(shown) > height - 1:
            shown = [*shown[: height - 2], f"… and {len(shown) - height + 2} lines more"]
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        sys.stdout.write(up + "".join(f"\x1b[K{line}\n" for line in shown) + "\x1b[J")
        sys.stdout.flush()
        self._drawn = len(shown)
