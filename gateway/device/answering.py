"""What the simulated device does with commands: switch, report, slow and fail; anything else it does not know. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

KNOWN = ("switch", "report", "slow", "fail")
MAX_SLOW_S = 60.0
_REPORTS = 4


class Step(NamedTuple):
    """Wait `after_s`, then send `message`."""

    after_s: float
    message: dict[str, Any]


class Appliance:
    """`on` is what `switch` has set last."""

    def __init__(self) -> None:
        self.on = False

    def carry_out(self, command: str, name: str, args: Any) -> Iterator[Step]:
        """The answers to a command, in order; the last one is its result.

        `switch {"on": true}` remembers and answers it, `report {"s": 2}` reports four times, `slow {"s": 5}` answers
        late, `fail {"code": "jammed"}` answers an error.
        """
        given = args if isinstance(args, dict) else {}
        if name == "switch":
            self.on = bool(given.get("on", not self.on))
            yield Step(0, _done(command, {"on": self.on}))
        elif name == "report":
            pause_s = _seconds(given, 1.0) / _REPORTS
            for number in range(1, _REPORTS + 1):
                percent = 100 * number / _REPORTS
                yield Step(pause_s, {"type": "report", "command": command, "percent": percent})
            yield Step(0, _done(command, {"reports": _REPORTS}))
        elif name == "slow":
            yield Step(_seconds(given, 1.0), _done(command, {"slept_s": _seconds(given, 1.0)}))
        elif name == "fail":
            yield Step(0, failed(command, str(given.get("code", "failed"))[:64] or "failed", "as the command asked"))
        else:
            yield Step(0, failed(command, "unknown_command", f"known are {', '.join(KNOWN)}"))


def failed(command: str, code: str, message: str) -> dict[str, Any]:
    """A result that is an error."""
    return {"type": "result", "command": command, "ok": False, "error": {"code": code, "message": message}}


def _done(command: str, value: Any) -> dict[str, Any]:
    return {"type": "result", "command": command, "ok": True, "value": value}


def _seconds(args: dict[str, Any], default: float) -> float:
    value = args.get("s", default)
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return min(MAX_SLOW_S, max(0.0, float(value))) if known else default
