"""What must hold at the end of a run: `ack_p99_ms < 200`, `connected_min == devices`."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from gateway.errors import SettingsError
from loadtest.scenario.metrics import FIGURES, FROM_STORES

_FORM = re.compile(r"\s*([a-z]\w*)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")
_NUMBER = re.compile(r"[-+]?\d[\d_]*(\.\d+)?([eE][-+]?\d+)?")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class Threshold(Struct, frozen=True):
    """The figure `name`, compared with a number or with another figure."""

    name: str
    comparison: str
    limit: float | str

    def __str__(self) -> str:
        limit = self.limit if isinstance(self.limit, str) else f"{self.limit:g}"
        return f"{self.name} {self.comparison} {limit}"


class ThresholdVerdict(Struct, frozen=True):
    """`margin` is the distance from the limit in the figure's unit; negative: missed.

    `held` None: it cannot be judged here; `note` says why.
    """

    threshold: str
    value: float | None
    limit: float | None
    margin: float | None
    held: bool | None
    note: str = ""


def parse(text: str) -> Threshold:
    """Parse `figure < limit`. Raises SettingsError naming what is wrong and the nearest known figure."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise SettingsError("thresholds", f"{text!r} is not `figure < limit`; comparisons are {' '.join(_OPERATORS)}")
    name, comparison, limit = match.groups()
    check_known(name, text)
    if _NUMBER.fullmatch(limit):
        if not math.isfinite(float(limit)):
            raise SettingsError("thresholds", f"{text[:80]!r}: the limit is not a number that can be reached")
        return Threshold(name, comparison, float(limit))
    check_known(limit, text)
    return Threshold(name, comparison, limit)


def judge(threshold: Threshold, values: Mapping[str, float | None]) -> ThresholdVerdict:
    """A value that was not measured misses its threshold, except one that only the gateways' stores can tell."""
    text = str(threshold)
    value = values.get(threshold.name)
    limit = values.get(threshold.limit) if isinstance(threshold.limit, str) else threshold.limit
    if value is None or limit is None:
        named = [threshold.name, threshold.limit]
        if any(name in FROM_STORES for name in named):
            note = "not judged: nothing could be looked for in the gateways' stores"
            return ThresholdVerdict(text, value, limit, None, None, note)
        return ThresholdVerdict(text, value, limit, None, False, "nothing was measured")
    return ThresholdVerdict(
        text, value, limit, _margin(threshold.comparison, value, limit), _OPERATORS[threshold.comparison](value, limit)
    )


def judge_all(
    texts: Sequence[str], values: Mapping[str, float | None], notes: Mapping[str, str] | None = None
) -> list[ThresholdVerdict]:
    """The verdicts, in the order of the scenario. `notes`: by figure, what to add to a missed threshold."""
    thresholds = [parse(text) for text in texts]
    verdicts = [judge(threshold, values) for threshold in thresholds]
    return [
        msgspec.structs.replace(verdict, note=(notes or {}).get(threshold.name, ""))
        if verdict.held is False and not verdict.note
        else verdict
        for threshold, verdict in zip(thresholds, verdicts, strict=True)
    ]


def line(verdict: ThresholdVerdict) -> str:
    """A verdict as one line of text."""
    word = {True: "held  ", False: "MISSED", None: "?     "}[verdict.held]
    value = "–" if verdict.value is None else f"{verdict.value:,.6g}"
    margin = "" if verdict.margin is None else f", margin {verdict.margin:,.6g}"
    note = f" ({verdict.note})" if verdict.note else ""
    return f"{word} {verdict.threshold}: {value}{margin}{note}"


def _margin(comparison: str, value: float, limit: float) -> float:
    if comparison.startswith("<"):
        return limit - value
    if comparison.startswith(">"):
        return value - limit
    return abs(value - limit) if comparison == "!=" else -abs(value - limit) or 0.0


def check_known(name: str, text: str) -> None:
    """Raises SettingsError when there is no such figure; `text` is the threshold that names it."""
    if name in FIGURES:
        return
    near = difflib.get_close_matches(name, FIGURES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FIGURES)}"
    raise SettingsError("thresholds", f"{text!r}: there is no figure {name!r}; {hint}")
