"""Watching a run: its events as they come, across restarts of the gateway. Blocks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import typer

from gateway.cli.workflow_text import event_line
from gateway.errors import RefusedError, UnreachableError

_WAIT_S = 20
# The gateway answers when the wait is over; the answer needs a moment to get here.
_TIMEOUT_S = _WAIT_S + 10.0
_PAUSE_S = 1.0
_ENDS = {"run_ok": "ok", "run_failed": "failed", "run_cancelled": "cancelled"}


def watch_run(remote: Any, path: str, after: int, as_json: bool) -> str:
    """Show events until the run is over, or, on a terminal and from its beginning, where it stands; how it ended.

    Raises RefusedError where there is no such run.
    """
    if sys.stdout.isatty() and not as_json and not after:
        from gateway.cli.workflow_live import Live

        return Live(remote, path).watch()
    ended = ""
    for event in _events(remote, path, after):
        ended = _ENDS.get(event["data"]["kind"], "")
        if as_json:
            typer.echo(json.dumps(event, ensure_ascii=False))
            continue
        typer.echo(event_line(event))
    return ended or str(remote.call("GET", path)["run"]["status"])


def _events(remote: Any, path: str, after: int) -> Iterator[dict[str, Any]]:
    """From the first one behind `after` to the last, in order, each once."""
    away = False
    while True:
        query = urlencode({"after": after, "limit": 500, "wait_s": _WAIT_S})
        try:
            found = remote.call("GET", f"{path}/events?{query}", timeout_s=_TIMEOUT_S)
        except (UnreachableError, RefusedError) as error:
            # One that has just started may not have opened its store.
            if isinstance(error, RefusedError) and error.status != 503:
                raise
            if not away:
                typer.echo(f"the gateway is away, trying again each second: {error}", err=True)
            away = True
            time.sleep(_PAUSE_S)
            continue
        if away:
            typer.echo(f"the gateway is back; going on behind {after}", err=True)
        away = False
        yield from found["events"]
        after = found["next"]
        if found["over"]:
            return
