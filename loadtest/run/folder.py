"""The folder of a run: `samples.jsonl` while it goes on, and the files made from it at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from gateway.errors import HeiwaError, SettingsError
from loadtest import bounded
from loadtest.report import report
from loadtest.results import prometheus, records
from loadtest.results.recorder import Recorder
from loadtest.results.records import Begin, RunRecord
from loadtest.results.result import RunResult, result
from loadtest.results.series import Second

SAMPLES = "samples.jsonl"
RESULT = "result.json"
METRICS = "metrics.prom"
REPORT = "report.html"


class Journal:
    """Appends records to `samples.jsonl` in whole lines, so that a crash breaks no more than the last one."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / SAMPLES).open("ab")

    def write(self, line: RunRecord) -> None:
        self._file.write(records.encode(line) + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class RunOutcome(msgspec.Struct, frozen=True):
    """A result, and the seconds that it was made from."""

    result: RunResult
    seconds: list[Second]


def make(folder: Path) -> Path:
    """Make the folder of a new run. Raises SettingsError when it holds a run already."""
    if (folder / SAMPLES).exists():
        raise SettingsError("--out", f"{folder} holds a run already; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError("--out", f"cannot make {folder}: {error.strerror}") from error
    return folder.absolute()


def begins(folder: Path) -> Begin:
    """The first record of a run. Raises HeiwaError."""
    try:
        with (folder / SAMPLES).open("rb") as file:
            first = next(records.read(bounded.lines(file)), None)
    except (OSError, ValueError) as error:
        raise HeiwaError(f"there is no run in {folder}: {error}") from error
    if not isinstance(first, Begin):
        raise HeiwaError(f"there is no run in {folder}: {SAMPLES} does not begin with one")
    return first


def replay(folders: Sequence[Path]) -> Recorder:
    """The records of one run, from one folder or from those of its shares. Raises HeiwaError."""
    recorder = Recorder()
    opened = []
    try:
        for folder in folders:
            try:
                opened.append((folder / SAMPLES).open("rb"))
            except OSError as error:
                raise HeiwaError(f"there is no run in {folder}: {error.strerror}") from error
        for line in records.merge(records.read(bounded.lines(file)) for file in opened):
            recorder.add(line)
    except ValueError as error:
        raise HeiwaError(f"{SAMPLES} is damaged: {error}") from error
    finally:
        for file in opened:
            file.close()
    return recorder


def write(folder: Path, recorder: Recorder) -> RunOutcome:
    """Write result, metrics and report into `folder`. Raises HeiwaError when the records hold no run."""
    seconds = recorder.seconds()
    try:
        outcome = RunOutcome(result(recorder, seconds), seconds)
    except ValueError as error:
        raise HeiwaError(str(error)) from error
    (folder / RESULT).write_bytes(msgspec.json.format(msgspec.json.encode(outcome.result), indent=2))
    (folder / METRICS).write_text(prometheus.text(outcome.result), "utf-8")
    (folder / REPORT).write_text(report.html([report.run_of(outcome.result, seconds, recorder.machine)]), "utf-8")
    return outcome
