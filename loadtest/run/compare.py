"""Makes reports again from folders: of one run, of the shares of a run on several machines, or of two runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.errors import HeiwaError, SettingsError
from loadtest.report import report
from loadtest.results.recorder import Recorder
from loadtest.results.result import result
from loadtest.run import folder as run_folder


def write(folders: Sequence[Path], out: Path | None) -> Path:
    """Write a report and return its path. Raises HeiwaError when the folders do not belong together."""
    groups = _groups(folders)
    if len(groups) == 1:
        recorder = run_folder.replay(groups[0])
        target = out or folders[0] / run_folder.REPORT
        if len(folders) == 1 and out is None:
            run_folder.write(folders[0], recorder)
        else:
            target.write_text(report.html([_run(recorder, "")]), "utf-8")
        return target
    runs = [_run(run_folder.replay(group), label) for group, label in zip(groups, ("before", "after"), strict=True)]
    target = out or folders[-1] / "comparison.html"
    target.write_text(report.html(runs), "utf-8")
    return target


def _groups(folders: Sequence[Path]) -> list[list[Path]]:
    """The folders by run: the shares of a run have the same scenario, seed and number of machines."""
    groups: dict[object, list[Path]] = {}
    for folder in folders:
        begins = run_folder.begins(folder)
        key: object = (begins.scenario, begins.seed, begins.share.partition("/")[2])
        if begins.share == "1/1":
            key = folder
        groups.setdefault(key, []).append(folder)
    if len(groups) > 2:
        raise SettingsError("DIR", f"these are {len(groups)} runs; a report shows one (all its shares) or two")
    return list(groups.values())


def _run(recorder: Recorder, label: str) -> report.ReportedRun:
    seconds = recorder.seconds()
    try:
        found = result(recorder, seconds)
    except ValueError as error:
        raise HeiwaError(str(error)) from error
    return report.run_of(found, seconds, recorder.machine, label)
