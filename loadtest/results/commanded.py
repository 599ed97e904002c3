"""What became of the commands to lamps, in figures."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.results.records import Commanded, Happened
from loadtest.scenario.metrics import Values

BROKER_ACTION = "broker"
BACK = "start"
DONE = "done"


def figures(commands: Sequence[Commanded], events: Sequence[Happened]) -> Values:
    """Empty without commands. Remote ones fail while the broker is away: what counts is how, and for how long after."""
    if not commands:
        return {}
    local = [one for one in commands if one.way == "local"]
    remote = [one for one in commands if one.way == "remote"]
    values: Values = {
        "commands": len(commands),
        "commands_doubled": max(one.doubled for one in commands),
        "commands_local_failed": sum(one.outcome != DONE for one in local),
        "command_local_p50_ms": _percentile(local, 50),
        "command_local_p99_ms": _percentile(local, 99),
        "command_remote_p50_ms": _percentile(remote, 50),
        "command_remote_p99_ms": _percentile(remote, 99),
    }
    values["commands_refused_p99_ms"] = _percentile(_refused(remote, events), 99, "unreachable")
    values["commands_remote_failed"] = sum(one.outcome != DONE for one in _served(remote, events))
    values["broker_back_s"] = _back_s(remote, events)
    return values


def _away(events: Sequence[Happened]) -> list[tuple[float, float]]:
    """When the broker was away: from an action that took it to the one that brought it back (ms); inf: never."""
    spans: list[tuple[float, float]] = []
    for event in events:
        if event.what != "action" or event.name != BROKER_ACTION:
            continue
        if event.fields.get("do") == BACK:
            if spans and spans[-1][1] == float("inf"):
                spans[-1] = (spans[-1][0], event.time_ms)
        elif not spans or spans[-1][1] != float("inf"):
            spans.append((event.time_ms, float("inf")))
    return spans


def _served(remote: Sequence[Commanded], events: Sequence[Happened]) -> list[Commanded]:
    """Those that lay wholly before the broker went, or 3 s and more after its return."""
    spans = [(begin, end + 3000) for begin, end in _away(events)]
    return [one for one in remote if not any(one.time_ms >= begin and one.began_ms <= end for begin, end in spans)]


def _refused(remote: Sequence[Commanded], events: Sequence[Happened]) -> list[Commanded]:
    """Those while the broker was known to be away: a hung one is noticed within 3 s."""
    spans = [(begin + 3000, end) for begin, end in _away(events)]
    return [one for one in remote if any(begin <= one.began_ms and one.time_ms <= end for begin, end in spans)]


def _back_s(remote: Sequence[Commanded], events: Sequence[Happened]) -> float | None:
    """From the return of the broker to the last command that failed after it; None: it never went, or stayed away."""
    took: list[float] = []
    for _, end in _away(events):
        if end == float("inf"):
            return None
        failed = [one.time_ms for one in remote if one.outcome != DONE and one.began_ms >= end]
        until = min((begin for begin, _ in _away(events) if begin > end), default=float("inf"))
        took.append(max((moment for moment in failed if moment < until), default=end) - end)
    return max(took, default=0.0) / 1000 if took else None


def _percentile(commands: Sequence[Commanded], percent: float, outcome: str = DONE) -> float | None:
    took = sorted(one.took_ms for one in commands if one.outcome == outcome)
    return took[min(len(took) - 1, int(len(took) * percent / 100))] if took else None
