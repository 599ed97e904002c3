"""A result in the Prometheus text format, for a textfile collector or a push gateway."""

from __future__ import annotations

from collections.abc import Iterator

from loadtest.results.result import RunResult
from loadtest.scenario.metrics import FIGURES

PREFIX = "heiwa_loadtest_"


def text(result: RunResult) -> str:
    """All measured figures, closes and refusals by code, and thresholds."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: RunResult) -> Iterator[str]:
    run = _labels(scenario=result.scenario)
    for name, figure in FIGURES.items():
        value = result.figures.get(name)
        if value is not None:
            yield from _family(name, f"{figure.meaning}{f' Unit: {figure.unit}.' if figure.unit else ''}")
            yield f"{PREFIX}{name}{run} {value:.10g}"
    yield from _family("closed_by_code", "Connections that ended, by close code.")
    for code, count in result.closed.items():
        yield f"{PREFIX}closed_by_code{_labels(scenario=result.scenario, code=code)} {count}"
    yield from _family("refused_by_status", "Refused handshakes by HTTP status; 0: no answer.")
    for status, count in result.refused.items():
        yield f"{PREFIX}refused_by_status{_labels(scenario=result.scenario, status=status)} {count}"
    yield from _family("threshold_held", "1: held, 0: missed.")
    for verdict in result.verdicts:
        if verdict.held is not None:
            labels = _labels(scenario=result.scenario, threshold=verdict.threshold)
            yield f"{PREFIX}threshold_held{labels} {int(verdict.held)}"


def _family(name: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {_escaped(meaning)}"
    yield f"# TYPE {PREFIX}{name} gauge"


def _labels(**labels: str) -> str:
    inside = ",".join(
        f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for name, value in labels.items()
    )
    return f"{{{inside}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
