"""Schedules: which times become runs, on the days on which clocks change, and after nobody was there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters import cron
from gateway.workflows.schedule import ms_of, run_key
from gateway.workflows.scheduler import turn_of
from gateway.workflows.spec import Schedule

ZONES = sorted(available_timezones())


def ms(text: str) -> int:
    return ms_of(datetime.fromisoformat(text))


def change_days(zone: str, year: int) -> list[datetime]:
    """The days of a year on which the offset of a zone changes."""
    where, day = ZoneInfo(zone), timedelta(days=1)
    days = [datetime(year, 1, 1, tzinfo=UTC) + number * day for number in range(366)]
    return [one for one in days if one.astimezone(where).utcoffset() != (one + day).astimezone(where).utcoffset()]


@given(st.sampled_from(ZONES), st.integers(2000, 2037), st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
def test_a_time_of_the_day_comes_once_a_day_whatever_the_clocks_do(
    zone: str, year: int, hour: int, minute: int
) -> None:
    for day in change_days(zone, year):
        begin, end = ms_of(day - timedelta(days=3)), ms_of(day + timedelta(days=3))
        found = [one for one in cron.times(f"{minute} {hour} * * *", zone, begin, end, 100) if ms_of(one) <= end]
        dates = [one.date() for one in found]
        assert len(set(dates)) == len(dates), found
        for before, after in pairwise(dates):
            # Samoa left out a whole day in 2011.
            assert after - before == timedelta(days=1) or year in (2000, 2011, 2012) or zone.startswith("Pacific/"), (
                found
            )
        assert len({run_key("x", one) for one in found}) == len(found)


def test_an_hour_that_comes_twice_has_two_runs_of_what_is_hourly() -> None:
    found = cron.times("30 * * * *", "Europe/Berlin", ms("2026-10-25T01:45+02:00"), ms("2026-10-25T02:45+01:00"), 9)
    keys = [run_key("hourly", one) for one in found[:2]]
    assert keys == ["schedule:hourly:2026-10-25T02:30:0", "schedule:hourly:2026-10-25T02:30:1"]


@pytest.mark.parametrize(
    ("expression", "zone", "problem"),
    [
        ("0 2 * * *", "Europe/Berlin", ""),
        ("0 2 * * *", "Europe/Belin", "time_zone: 'Europe/Belin' is no time zone"),
        ("0 2 * * *", "../../etc/passwd", "time_zone: '../../etc/passwd' is no time zone"),
        ("61 2 * * *", "UTC", "cron: '61 2 * * *': bad minute; it is 0 to 59"),
        ("0 2 * * 9", "UTC", "cron: '0 2 * * 9': bad day-of-week; it is 0 to 7"),
        ("0 2 * *", "UTC", "cron: '0 2 * *' has not five fields"),
        ("0 0 2 * * *", "UTC", "cron: '0 0 2 * * *' has not five fields"),
        ("61 * * * *", "UTC", "cron: '61 * * * *'"),
        ("0 0 30 2 *", "UTC", "cron: '0 0 30 2 *'"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_told(expression: str, zone: str, problem: str) -> None:
    found = cron.problem(expression, zone)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("missed", "hours"),
    [("skip", []), ("latest", ["05"]), ("all", ["03", "04", "05"])],
)
def test_what_was_missed(missed: str, hours: list[str]) -> None:
    schedule = Schedule(cron="0 * * * *", missed=missed)  # type: ignore[arg-type]
    turn = turn_of(schedule, ms("2026-01-01T02:00Z"), ms("2026-01-01T05:30Z"), cron)
    assert [f"{time:%H}" for time in turn.runs] == hours
    assert (turn.done_ms, turn.next_ms) == (ms("2026-01-01T05:00Z"), ms("2026-01-01T06:00Z"))


def test_what_is_due_now_was_not_missed() -> None:
    turn = turn_of(Schedule(cron="0 * * * *", missed="skip"), ms("2026-01-01T02:00Z"), ms("2026-01-01T03:00:59Z"), cron)
    assert len(turn.runs) == 1


@pytest.mark.parametrize(("missed", "count"), [("skip", 0), ("latest", 1), ("all", 525_600 // 5)])
def test_a_year_that_was_missed_is_seen_to_in_turns(missed: str, count: int) -> None:
    schedule = Schedule(cron="*/5 * * * *", missed=missed)  # type: ignore[arg-type]
    done_ms, now_ms, runs = ms("2025-01-01T00:00Z"), ms("2026-01-01T00:02Z"), 0
    while True:
        turn = turn_of(schedule, done_ms, now_ms, cron)
        assert len(turn.runs) <= 100
        runs, done_ms = runs + len(turn.runs), turn.done_ms
        if turn.next_ms is not None and turn.next_ms > now_ms:
            break
    assert runs == count
