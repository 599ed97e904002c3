"""Recordings, read and played: every recorded event is sent once, whatever the server does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RecordingError, SettingsError
from gateway.recording.format import VERSION, Connected, Disconnected, Dropped, Header, Line, Said, encode_lines
from loadtest.fleet import replay
from loadtest.fleet.phases import NEW, UP
from loadtest.fleet.replay import AUTH, CONNECT, DISCONNECT, EVENTS, PING, RecordingSummary, ReplayStep, moments
from loadtest.fleet.replayer import Replayer
from loadtest.processes import slices
from loadtest.processes.fleet_options import CommonOptions, fleet_options
from loadtest.scenario.parsing import parse
from tests.support.fleet_world import DEVICES, World, frame


def name(device: int) -> str:
    return f"{device:016x}"


def connect(at_ms: int, device: int, connection: int = 1, device_class: str = "") -> Line:
    return Connected(at_ms, name(device), connection, device_class)


def leave(at_ms: int, device: int, connection: int = 1) -> Line:
    return Disconnected(at_ms, name(device), connection, 1000)


def say(at_ms: int, device: int, kind: str = "location", events: int = 1, size: int = 150, connection: int = 1) -> Line:
    return Said(at_ms, name(device), connection, kind, size, events)


def summary_of(found: Iterable[Line], path: Path = Path()) -> RecordingSummary:
    summary = RecordingSummary(path)
    for line in found:
        summary.add(line)
    return summary


def played(*found: Line) -> list[ReplayStep]:
    summary = summary_of(found)
    return list(moments(found, summary.numbers, summary.here))


def write(path: Path, *found: Line) -> Path:
    path.write_bytes(encode_lines([Header(VERSION), *found]))
    return path


# Reading


def test_a_recording_is_what_devices_do() -> None:
    assert played(
        connect(0, 7),
        connect(5, 9),
        say(10, 9, "locations", 20, 3000),
        say(11, 7, "ping", 0),
        say(12, 7, "auth", 0),
        leave(20, 7),
        connect(30, 7, 3),
    ) == [
        ReplayStep(0, 0, CONNECT),
        ReplayStep(5, 1, CONNECT),
        ReplayStep(10, 1, EVENTS, 20, 3000),
        ReplayStep(11, 0, PING, 0, 150),
        ReplayStep(12, 0, AUTH, 0, 150),
        ReplayStep(20, 0, DISCONNECT),
        ReplayStep(30, 0, CONNECT),
    ]


def test_the_first_line_shows_that_a_device_was_connected_before() -> None:
    found = [say(1, 1, connection=4), leave(2, 2, 5), connect(3, 3), leave(4, 1, 4)]
    summary = summary_of(found)
    assert summary.here == {0, 1}
    assert (summary.here_of(0, 1), summary.here_of(1, 2)) == ([0], [0])
    assert [(moment.device, moment.do) for moment in played(*found)] == [
        (0, EVENTS),
        (1, DISCONNECT),
        (2, CONNECT),
        (0, DISCONNECT),
    ]


def test_the_end_of_a_connection_that_was_replaced_is_no_news() -> None:
    found = played(connect(1, 1, 1), connect(2, 1, 2), leave(2, 1, 1), say(3, 1, connection=2), leave(4, 1, 2))
    assert [moment.do for moment in found] == [CONNECT, CONNECT, EVENTS, DISCONNECT]


def test_a_message_whose_connect_is_missing_connects() -> None:
    found = played(connect(1, 1), leave(2, 1), Dropped(3, 9), say(3, 1, connection=2), leave(4, 1, 2))
    assert [moment.do for moment in found] == [CONNECT, DISCONNECT, CONNECT, EVENTS, DISCONNECT]


def test_messages_that_cannot_be_sent_again_are_counted_and_reported() -> None:
    found = [connect(0, 1), say(1, 1, "other", 0), say(2, 1, "report", 0), say(2, 1, "locations", 0), Dropped(9, 4)]
    summary = summary_of(found)
    assert summary.unsent == {"other": 1, "report": 1, "locations": 1}
    assert "1 devices, 1 connects and 0 events in 0.0 s" in summary.text()
    assert "cannot be sent again: 1 locations, 1 other, 1 report; 4 lines are missing" in summary.text()
    assert [moment.do for moment in played(*found)] == [CONNECT]


def test_a_recording_that_goes_on_is_played_as_far_as_it_was_read() -> None:
    found = [connect(0, 1), connect(1, 2), say(2, 2)]
    summary = summary_of(found[:1])
    assert list(moments(found, summary.numbers, summary.here)) == [ReplayStep(0, 0, CONNECT)]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"cannot read .*none"):
        replay.scan(tmp_path / "none")
    with pytest.raises(RecordingError, match="holds no device"):
        replay.scan(write(tmp_path / "empty"))
    with pytest.raises(RecordingError, match="line 3: at_ms"):
        replay.scan(write(tmp_path / "back", connect(5, 1), leave(4, 1)))


def test_a_scenario_fits_its_recording() -> None:
    summary = summary_of([connect(0, 1), say(60_000, 1), connect(60_000, 2)])
    scenario = parse("[replay]\nfile = 'r'\nspeed = 10\n[[actions]]\nat_s = 6.5\ndo = 'cut'", "mine")
    fitted = replay.fit(scenario, summary, None)
    assert (fitted.fleet.devices, fitted.run.duration_s, fitted.events.none) == (2, 7.0, True)
    [part] = slices.slices(fitted, slices.MachineShare(), summary)
    assert (part.devices, part.opening) == (2, 0)
    options = fleet_options(fitted, part, CommonOptions(["ws://x/ws"], "s" * 32, 1, "r.", True, 0), "")
    assert (options.speed, Path(options.replay)) == (10, Path("r").absolute())
    with pytest.raises(SettingsError, match="before the end"):
        replay.fit(scenario, summary, 3.0)
    with pytest.raises(SettingsError, match="churn_period_s"):
        replay.fit(parse("[fleet]\nchurn_period_s = 3", "mine"), summary, None)


# Playing


class Stage(World):
    """A world with the devices of a recording."""

    def __init__(self, path: Path, *found: Line, chance: Random | None = None, speed: float = 1) -> None:
        events = {"period_s": 0}
        super().__init__(chance or Random(1), events=events, connect={"kind": "at_once"}, speed=speed)
        self.summary = replay.scan(write(path, *found))
        self.replayer = Replayer(self.summary, self.population, lambda slot: f"token-{slot}")
        self.population.guide = self.replayer
        self.server.kind = chance is None
        self.population.connect(self.now_s, self.replayer.here)

    def begin(self) -> float:
        self.replayer.begin(self.now_s)
        return self.now_s

    def answer(self) -> None:
        """Acknowledge everything."""
        for wire in list(self.server.wires):
            if wire.unanswered:
                ids, wire.unanswered = wire.unanswered, []
                wire.say(frame({"type": "ack", "ids": ids, "durability": "indexed"}))


def test_everything_happens_at_its_moment(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path / "r", say(0, 0), connect(2000, 1), say(3000, 1, "locations", 5, 1500), leave(4000, 0), leave(6000, 1)
    )
    stage.pass_s(0.2)
    assert stage.population.connected() == [0]
    began_s = stage.begin()
    seen = stage.server.seen
    for at_s, events, connected in ((1, 1, [0]), (2.5, 1, [0, 1]), (3.5, 6, [0, 1]), (4.5, 6, [1]), (7, 6, [])):
        stage.pass_s(began_s + at_s - stage.now_s)
        stage.answer()
        assert (len(seen), stage.population.connected()) == (events, connected), at_s
    times = Counter(event["time"] - round((began_s + 1e9) * 1000) for (slot, _), event in seen.items() if slot == 1)
    assert set(times.values()) == {5}
    assert abs(next(iter(times)) - 3000) <= 10
    assert stage.tally.closed == {1000: 2}
    assert stage.population.phases[0] == NEW
    assert stage.tally.unexpected == 0


def test_speed(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", connect(0, 0), say(60_000, 0), speed=20)
    stage.begin()
    stage.pass_s(2.9)
    assert not stage.server.seen
    stage.pass_s(0.2)
    assert len(stage.server.seen) == 1
    assert not stage.replayer.playing


def test_a_device_gets_its_acks_before_it_goes(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", connect(0, 0), say(100, 0), leave(200, 0), connect(9000, 0, 2))
    stage.begin()
    stage.pass_s(5)
    assert stage.population.connected() == [0]
    stage.answer()
    stage.pass_s(0.5)
    assert stage.population.connected() == []
    stage.pass_s(5)
    assert (stage.tally.connects, stage.ledger.acked, stage.ledger.resent) == (2, 1, 0)


def test_a_second_connection_replaces_the_first(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", connect(0, 0), connect(1000, 0, 2), leave(1000, 0, 1), leave(3000, 0, 2))
    stage.begin()
    stage.pass_s(2)
    assert (stage.tally.connects, stage.population.connected()) == (2, [0])
    stage.pass_s(2)
    assert stage.population.connected() == []
    assert stage.tally.gap.take() != ""


def test_a_late_device_connects_as_often_as_recorded(tmp_path: Path) -> None:
    found = [connect(0, 0), say(1, 0), leave(2, 0), connect(3, 0, 2), say(4, 0, connection=2), leave(5, 0, 2)]
    stage = Stage(tmp_path / "r", *found)
    stage.server.slow = True
    stage.begin()
    stage.pass_s(1)
    for _ in range(2):
        stage.server.answer()
        stage.pass_s(0.5)
        stage.answer()
        stage.pass_s(0.5)
    assert (stage.tally.connects, stage.ledger.acked, stage.tally.closed) == (2, 2, {1000: 2})


def test_time_away_is_no_gap(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", connect(0, 0), leave(1000, 0), connect(5000, 0, 2))
    stage.begin()
    stage.pass_s(6)
    assert stage.tally.connects == 2
    assert stage.tally.gap.take() == ""


def test_pings_and_tokens_are_sent_while_connected(tmp_path: Path) -> None:
    found = [connect(0, 0), say(1000, 0, "ping", 0), say(1000, 0, "auth", 0), leave(2000, 0), connect(2000, 0, 2)]
    stage = Stage(tmp_path / "r", *found)
    sent = stage.server.others
    stage.begin()
    stage.pass_s(3)
    assert [message["type"] for message in sent] == ["ping", "auth"]
    assert sent[1]["token"] == "token-0"
    assert stage.replayer.skipped == 0


def test_a_pause_cuts_what_is_not_due(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", connect(0, 0), say(1000, 0), say(2000, 0))
    stage.begin()
    stage.pass_s(1.5)
    stage.replayer.pause(stage.now_s)
    stage.pass_s(3)
    assert stage.ledger.sent == 1


@st.composite
def recordings(draw: st.DrawFn) -> list[Line]:
    """Anything that a recorder may write, lines missing included."""
    found: list[Line] = []
    at_ms = 0
    for _ in range(draw(st.integers(1, 40))):
        at_ms += draw(st.integers(0, 1500))
        device, connection = draw(st.integers(0, DEVICES - 1)), draw(st.integers(1, 3))
        what = draw(st.integers(0, 9))
        if what < 3:
            found.append(connect(at_ms, device, connection))
        elif what < 5:
            found.append(leave(at_ms, device, connection))
        else:
            count = draw(st.integers(1, 30))
            found.append(say(at_ms, device, "locations", count, draw(st.integers(0, 9000)), connection))
    # Everybody of the world is in it.
    return [*(connect(0, device) for device in range(DEVICES)), *found]


@settings(max_examples=60, deadline=None)
@given(recordings(), st.integers(), st.lists(st.integers(0, 8), max_size=40))
def test_every_recorded_event_is_sent_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, found: list[Line], seed: int, acts: list[int]
) -> None:
    stage = Stage(tmp_path_factory.mktemp("r") / "r", *found, chance=Random(seed))
    server, ledger = stage.server, stage.ledger
    stage.begin()
    for what in acts:
        stage.pass_s(0.7)
        server.act(what)
        server.settle()
        stage.check()
    stage.pass_s(60)
    server.kind = True
    for _ in range(400):
        stage.pass_s(0.5)
        stage.answer()
        if not ledger.in_flight and not ledger.waiting:
            break
    stage.pass_s(8)
    assert ledger.sent == stage.summary.events
    assert ledger.lost == ledger.in_flight == ledger.waiting == 0
    # Who left in the recording has left, but for those that their client model has given up on.
    for slot in range(DEVICES):
        if stage.population.phases[slot] == UP:
            last = [moment for moment in moments(found, stage.summary.numbers, ()) if moment.device == slot][-1]
            assert last.do != DISCONNECT
