"""The result of a run, from its recorder: all figures and verdicts. `result.json` holds it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from msgspec import Struct

from loadtest.fleet.sample import ClientModelCounts
from loadtest.results import commanded, waves
from loadtest.results.recorder import Recorder, latency_figures
from loadtest.results.records import Happened, Judged
from loadtest.results.series import Second, Usage
from loadtest.results.waves import Simulated, Wave
from loadtest.scenario import thresholds
from loadtest.scenario.metrics import FIGURES, Values
from loadtest.scenario.thresholds import ThresholdVerdict

COMMANDS = (
    "command_sent",
    "command_results",
    "command_refused",
    "command_timed_out",
    "command_cut",
    "command_unanswered",
    "command_far",
    "carried_twice",
)
WATCHING = ("watch_snapshots", "watch_events", "watch_stale")
# A device that is sent away is on its way back for a moment; one that is missing is missing for longer.
END_S = 5


class RunResult(Struct, frozen=True):
    """`stopped_by` "": the scenario was played to its end. `shares` are the merged ones, as `i/n`."""

    scenario: str
    description: str
    shares: list[str]
    began_ms: int
    ended_ms: int
    seed: int
    stopped_by: str
    figures: Values
    verdicts: list[ThresholdVerdict]
    closed: dict[str, int]
    refused: dict[str, int]
    lost_ids: list[str]
    doubled_ids: list[str]
    processes: list[Usage]
    events: list[Happened]
    machines: list[dict[str, Any]]
    versions: dict[str, str]
    options: dict[str, Any]
    client_models: dict[str, ClientModelCounts] = {}
    waves: list[Wave] = []
    simulated: Simulated | None = None

    @property
    def missed(self) -> bool:
        """Whether a threshold was missed."""
        return any(verdict.held is False for verdict in self.verdicts)


def result(recorder: Recorder, seconds: list[Second]) -> RunResult:
    """The result that the records give. Raises ValueError when no run begins in them."""
    if not recorder.begins:
        raise ValueError("no run begins in these records")
    first = recorder.begins[0]
    options: dict[str, Any] = first.options.get("scenario", {})
    values = figures(recorder, seconds)
    stops = [event.text for event in recorder.events if event.what == "phase" and event.name == "stopped"]
    return RunResult(
        scenario=first.scenario,
        description=options.get("description", ""),
        shares=sorted({begin.share for begin in recorder.begins}),
        began_ms=min(begin.time_ms for begin in recorder.begins),
        ended_ms=max([event.time_ms for event in recorder.events] + [second.time_s * 1000 for second in seconds[-1:]])
        if recorder.events or seconds
        else first.time_ms,
        seed=first.seed,
        stopped_by="; ".join(dict.fromkeys(stops)),
        figures=values,
        verdicts=thresholds.judge_all(options.get("thresholds", []), values, _notes(recorder, seconds)),
        closed=recorder.by_code("closed"),
        refused=recorder.by_code("refused"),
        lost_ids=[name for judged in recorder.judged for name in judged.lost_ids],
        doubled_ids=list(dict.fromkeys(name for judged in recorder.judged for name in judged.doubled_ids)),
        processes=recorder.usage(),
        events=recorder.events,
        machines=[begin.machine for begin in recorder.begins],
        versions=first.versions,
        options=first.options,
        client_models=recorder.client_models(),
        waves=_waves(recorder),
        simulated=_simulated(recorder, seconds),
    )


def _waves(recorder: Recorder) -> list[Wave]:
    settled = [event.time_ms for event in recorder.events if event.what == "phase" and event.name == "settle"]
    return waves.judge(recorder.waves, recorder.bins, max(settled, default=None))


def _notes(recorder: Recorder, seconds: list[Second]) -> dict[str, str]:
    """Notes for figures that miss their thresholds, by figure."""
    if not recorder.waves:
        return {}
    late_ms = {second.time_s: second.late_ms for second in seconds}
    said = waves.of_the_peak(_waves(recorder), recorder.waves[0].speed, late_ms, recorder.machine.stolen_s())
    return dict.fromkeys(("connect_peak_per_s", "connect_peak_ratio", "connect_peak_limit_ratio"), said)


def _simulated(recorder: Recorder, seconds: list[Second]) -> Simulated | None:
    """The simulated seconds of the measured time; None without a deploy."""
    begin = recorder.phase("measure")
    if not recorder.waves or begin is None or not seconds:
        return None
    end = recorder.phase("settle") or seconds[-1].time_s
    return waves.simulated(recorder.waves[0].speed, recorder.bins, begin, end)


def figures(recorder: Recorder, seconds: list[Second]) -> Values:
    """Every figure by its name; None: not measured."""
    totals = recorder.totals()
    values: Values = dict.fromkeys(FIGURES)
    values.update(
        devices=sum(begin.devices for begin in recorder.begins),
        refused=sum(recorder.by_code("refused").values()),
        closed=sum(recorder.by_code("closed").values()),
        unexpected_close=totals["unexpected"],
        waiting=totals["waiting"],
        dropped=totals["lost"],
        unaccounted=totals["sent"] - sum(totals[name] for name in ("acked", "nacked", "in_flight", "waiting", "lost")),
        processes_died=sum(event.what == "died" for event in recorder.events),
    )
    plain = ("connects", "given_up", "goaways", "sent", "acked", "nacked", "in_flight", "resent")
    values.update({name: totals[name] for name in (*plain, *COMMANDS, *WATCHING)})
    failed = totals["command_refused"] + totals["command_timed_out"]
    values["command_failed_ratio"] = failed / totals["command_sent"] if totals["command_sent"] else None
    values.update(latency_figures(recorder))
    if recorder.judged:
        values["lost"] = totals["lost"] + sum(judged.lost for judged in recorder.judged)
        values["doubled"] = _over_stores(recorder.judged, "doubled")
        values["copies"] = _over_stores(recorder.judged, "copies")
    values.update(_over_time(recorder, seconds))
    values.update(commanded.figures(recorder.commands, recorder.events))
    values["abnormal_close"] = waves.abnormal(recorder.client_models())
    if recorder.waves:
        values.update(waves.figures(_waves(recorder), recorder.waves[0].speed, values))
    return values


def _over_stores(found: list[Judged], name: str) -> int:
    """A count over all stores. Of shares that looked into the same stores the maximum counts: the last saw the most."""
    own = sum(int(getattr(judged, name)) for judged in found if not judged.through)
    seen: dict[tuple[str, ...], int] = {}
    for judged in found:
        if judged.through:
            key, count = tuple(judged.through), int(getattr(judged, name))
            seen[key] = max(seen.get(key, 0), count)
    return own + sum(seen.values())


def _over_time(recorder: Recorder, seconds: list[Second]) -> Values:
    if not seconds:
        return {}
    values: Values = {
        "connected_max": max(second.connected for second in seconds),
        "connect_peak_per_s": _peak(seconds, 0),
    }
    begin, end = recorder.phase("measure"), recorder.phase("settle")
    last = seconds[-1].time_s
    # The seconds that lie entirely within the measured time.
    measured = [
        second for second in seconds if begin is not None and begin < second.time_s < (end if end is not None else last)
    ]
    if not measured or begin is None:
        return values
    values["connected"] = max(second.connected for second in measured[-END_S:])
    values["connected_min"] = min(second.connected for second in measured)
    values["reconnect_peak_per_s"] = _peak(measured[1:], measured[0].connects) if measured[1:] else 0
    values["recovered_s"] = _recovered_s(recorder, seconds)
    values["late_max_ms"] = max(second.late_ms for second in measured)
    stolen_s = recorder.machine.stolen_s()
    values["stolen_max_s"] = max((stolen_s[at.time_s] for at in measured if at.time_s in stolen_s), default=None)
    values.update(_memory(recorder, measured))
    mean = sum(second.connected for second in measured) / len(measured)
    span = measured[-1].time_s - begin
    for role in ("gateway", "fleet"):
        if recorder.machine.growth(role, last) is not None and mean and span:
            cpu_s = recorder.machine.cpu_s(role, begin, measured[-1].time_s)
            values[f"{role}_cpu_us_per_connection_s"] = cpu_s / span / mean * 1e6
    return values


def _memory(recorder: Recorder, measured: list[Second]) -> Values:
    """Memory in the last of the seconds with the maximum number of connections."""
    highest = max(second.connected for second in measured)
    if not highest:
        return {}
    moment = max(second.time_s for second in measured if second.connected == highest)
    values: Values = {}
    for role in ("gateway", "fleet"):
        growth = recorder.machine.growth(role, moment)
        if growth is not None:
            values[f"{role}_base_bytes"] = growth[0]
            values[f"{role}_bytes_per_connection"] = growth[1] / highest
    kernel = recorder.machine.kernel_growth(moment)
    values["kernel_bytes_per_connection"] = None if kernel is None else kernel / highest
    return values


def _peak(seconds: list[Second], before: int) -> int:
    """The maximum number of connects in one second; `before` had been counted when the first one began."""
    counts = [before, *(second.connects for second in seconds)]
    return max(after - earlier for earlier, after in pairwise(counts))


def _recovered_s(recorder: Recorder, seconds: list[Second]) -> float | None:
    """The longest time from an action to as many connections as before it; None: no action, or no recovery."""
    took: list[float] = []
    for event in recorder.events:
        if event.what != "action":
            continue
        moment = event.time_ms // 1000
        before = [second.connected for second in seconds if second.time_s < moment]
        if not before:
            continue
        fell = [second.time_s for second in seconds if second.time_s >= moment and second.connected < before[-1]]
        if not fell:
            continue
        back = [s.time_s for s in seconds if s.time_s > fell[0] and s.connected >= before[-1]]
        if not back:
            return None
        took.append(back[0] - moment)
    return max(took, default=None)
