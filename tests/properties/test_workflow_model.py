"""Random graphs, failures, waits, crashes and late reports: `advance` beside a naive interpreter of the same rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.workflows.run import WHOLE, Attempt, Key
from gateway.workflows.states import is_run_over
from gateway.workflows.step import Cancel, Failed, Finished, Progress, Resume, Submitted
from tests.support.workflow_reference import Reference
from tests.support.workflows import START_MS, Player, definition, node

POLICIES = st.sampled_from(["fail", "skip", "continue"])


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 6))):
        needs = draw(st.lists(st.sampled_from(sorted(nodes)), unique=True, max_size=3)) if nodes else []
        fields: dict[str, Any] = {"needs": needs, "on_error": draw(POLICIES)}
        shape = draw(st.sampled_from(["plain", "each", "repeat"]))
        if shape == "each":
            count, parallel = draw(st.integers(0, 5)), draw(st.integers(1, 3))
            fields["for_each"] = {"items": list(range(count)), "max_parallel": parallel}
        elif shape == "repeat":
            until = f"${{n{number}.ready}}"
            fields["repeat"] = {"until": until, "max_iterations": draw(st.integers(1, 3)), "wait_s": draw(WAITS)}
        if draw(st.booleans()):
            fields["retry"] = {"max_attempts": draw(st.integers(1, 3)), "wait_s": draw(WAITS), "backoff": 1}
        if draw(st.booleans()):
            fields["timeout_s"] = draw(st.integers(1, 90))
        nodes[f"n{number}"] = node(**fields)
    return nodes


COINS: st.SearchStrategy[Any] = st.booleans()
WAITS = st.integers(1, 60)


class Both:
    """The machine and the reference, told the same, and compared after every event."""

    def __init__(self, nodes: dict[str, Any], budget: int, reloading: bool) -> None:
        self.player = Player(definition(nodes), budget=budget, reloading=reloading).begin()
        self.reference = Reference(nodes, START_MS)
        self.done: list[Any] = []
        self.compare()

    def open(self) -> list[Attempt]:
        return sorted(self.player.open.values())

    def finish(self, attempt: Attempt, ready: bool) -> None:
        self.player.finish(*attempt.key, value={"ready": ready})
        self.reference.finish(*attempt.key, ready)
        self.done.append(Finished(attempt, {"ready": ready}))

    def fail(self, attempt: Attempt) -> None:
        self.player.fail(*attempt.key)
        self.reference.fail(*attempt.key)
        self.done.append(Failed(attempt, "broken"))

    def wait(self, seconds: int) -> None:
        self.player.wait(seconds)
        self.reference.wait(seconds * 1000)
        # What was lost is not open any more.
        rows = self.player.state.rows
        for key, attempt in list(self.player.open.items()):
            if rows[key].attempt != attempt.number or rows[key].status not in ("running", "stopping"):
                del self.player.open[key]

    def cancel(self) -> None:
        self.player.tell(Cancel())
        self.reference.cancel()

    def resume(self) -> None:
        self.player.tell(Resume())
        self.reference.resume()

    def compare(self) -> None:
        rows = self.player.state.rows
        seen = {key: (row.status.value, row.attempt) for key, row in rows.items() if key.iteration != WHOLE}
        items = {Key(*key): (item.status, item.attempt) for key, item in self.reference.items.items()}
        # An item that a resume has not come to is not in the reference's list of items.
        assert {key: value for key, value in seen.items() if value != ("ready", 0)} == {
            key: value for key, value in items.items() if value != ("ready", 0)
        }
        whole = {key.path: row.status.value for key, row in rows.items() if key.iteration == WHOLE}
        over = {path: status for path, status in whole.items() if status not in ("running", "ready")}
        assert over == {path: status for path, status in self.reference.over.items() if path in whole}
        assert self.player.state.status == self.reference.status


# To shrink a failure takes minutes; the blob that is printed plays it again.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
STORIES = given(st.data(), graphs(), st.sampled_from([1, 2, 256]), st.booleans())


@settings(max_examples=150, phases=PHASES)
@STORIES
def test_the_machine_does_what_the_naive_interpreter_does(
    data: st.DataObject, nodes: dict[str, Any], budget: int, reloading: bool
) -> None:
    _play(data, nodes, budget, reloading)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, phases=PHASES)
@STORIES
def test_the_machine_does_so_in_many_stories(
    data: st.DataObject, nodes: dict[str, Any], budget: int, reloading: bool
) -> None:
    _play(data, nodes, budget, reloading)


def _play(data: st.DataObject, nodes: dict[str, Any], budget: int, reloading: bool) -> None:
    both = Both(nodes, budget, reloading)
    for _ in range(data.draw(st.integers(0, 30), "events")):
        moves: list[Callable[[], None]] = []
        attempts = both.open()
        if attempts:
            attempt = data.draw(st.sampled_from(attempts), "attempt")
            moves += [
                lambda one=attempt: both.finish(one, True),  # type: ignore[misc]
                lambda one=attempt: both.finish(one, False),  # type: ignore[misc]
                lambda one=attempt: both.fail(one),  # type: ignore[misc]
            ]
        status = both.player.state.status
        if not is_run_over(status):
            moves.append(lambda: both.wait(data.draw(st.integers(0, 130), "seconds")))
        if status in ("running", "failing") and data.draw(st.integers(0, 7), "cancel?") == 0:
            moves = [both.cancel]
        if status in ("failed", "cancelled"):
            moves.append(both.resume)
        if not moves:
            break
        data.draw(st.sampled_from(moves), "move")()
        both.compare()
        if both.done and data.draw(COINS, "late?"):
            _late(both, data.draw(st.sampled_from(both.done), "late"))
    _events_tell_all(both.player)


def _late(both: Both, report: Any) -> None:
    """What is reported a second time changes nothing, whatever it is by now."""
    before = both.player.state
    for again in (report, Submitted(report.attempt, "x"), Progress(report.attempt, 1.0), Failed(report.attempt, "y")):
        assert both.player.tell(again).state == before


def _events_tell_all(player: Player) -> None:
    """Who follows the events knows the status of each row."""
    told: dict[tuple[str, int], str] = {}
    ended = {"node_ok", "node_failed", "node_skipped", "node_cancelled"}
    for event in player.events:
        if event.node is not None and event.kind.value in ended:
            key = event.node, event.iteration if event.iteration is not None else _only(player, event.node)
            told[key] = event.kind.value.removeprefix("node_")
        elif event.kind.value == "run_resumed":
            told = {key: status for key, status in told.items() if status in ("ok", "skipped")}
    rows = {key: row.status.value for key, row in player.state.rows.items()}
    assert told == {key: status for key, status in rows.items() if status in ("ok", "failed", "skipped", "cancelled")}


def _only(player: Player, path: str) -> int:
    return WHOLE if Key(path, WHOLE) in player.state.rows else 0
