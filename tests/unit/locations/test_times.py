import pytest

from gateway.locations.event import LocationEvent, Problem
from gateway.locations.times import RETRY_MS, EventTimes
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, event


class Fleet:
    """Accounts that send one event each, at the right time, to a gateway whose clock is `ahead_ms` ahead."""

    def __init__(self, ahead_ms: int = 0, retention_days: int = 30) -> None:
        self.clock = ManualClock(NOON_MS + ahead_ms)
        self.times = EventTimes(self.clock, retention_days)

    def sends(self, account: str, *events: LocationEvent, device: str = "d") -> dict[int, Problem]:
        self.clock.now_s += 1
        self.clock.now_ms += 1000
        return self.times.judge(account, device, events or (event("e", NOON_MS),), self.clock.now_ms)


@pytest.mark.parametrize("ahead_days", [-40, 40])
def test_while_our_clock_is_off_good_events_are_asked_for_again(ahead_days: int) -> None:
    fleet = Fleet(ahead_days * DAY_MS)
    for account in ("a", "b", "c"):
        fleet.sends(account)
    (problem,) = fleet.sends("d").values()
    assert problem.code == "clock"
    assert problem.retry_after_ms is not None
    assert RETRY_MS <= problem.retry_after_ms < 2 * RETRY_MS
    assert fleet.times.clock_off
    side = "ahead of" if ahead_days > 0 else "behind"
    assert f"the wall clock is 40.0 days {side}" in fleet.times.problem()
    fleet.clock.now_ms -= ahead_days * DAY_MS
    assert fleet.sends("d") == {}
    assert not fleet.times.clock_off
    assert fleet.times.problem() == ""


@pytest.mark.parametrize("ahead_days", [-40, 40])
def test_one_account_never_decides(ahead_days: int) -> None:
    fleet = Fleet(ahead_days * DAY_MS)
    for _ in range(50):
        (problem,) = fleet.sends("a").values()
        assert (problem.code, problem.retry_after_ms) == ("invalid", None)
    assert not fleet.times.clock_off
    fleet.clock.now_ms = NOON_MS
    for account in ("b", "c", "d"):
        assert fleet.sends(account) == {}
    for _ in range(50):
        (problem,) = fleet.sends("a", event("e", 0)).values()
        assert problem.code == "invalid"


def test_a_start_later_than_all_that_is_stored_may_be_a_clock_that_is_ahead(caplog: pytest.LogCaptureFixture) -> None:
    clock, midnight_ms = ManualClock(NOON_MS + 90 * DAY_MS), NOON_MS - NOON_MS % DAY_MS
    newest_ms = midnight_ms
    times = EventTimes(clock, 30, lambda: newest_ms)
    for sent in (event("e", NOON_MS), event("e", NOON_MS + 20 * DAY_MS), event("e", NOON_MS - 29 * DAY_MS)):
        (problem,) = times.judge("a", "d", [sent], clock.now_ms).values()
        assert (problem.code, problem.retry_after_ms is None) == ("clock", False)
    for sent in (event("e", NOON_MS - 31 * DAY_MS), event("e", clock.now_ms + 2 * DAY_MS)):
        (problem,) = times.judge("a", "d", [sent], clock.now_ms).values()
        assert problem.code == "invalid"
    assert [record.getMessage() for record in caplog.records].count("clock_doubted") == 1
    # It was the gateway that was away: something new is stored.
    newest_ms += 90 * DAY_MS
    (problem,) = times.judge("a", "d", [event("e", NOON_MS)], clock.now_ms).values()
    assert problem.code == "invalid"


@pytest.mark.parametrize(
    ("stored_days_ago", "after_s", "code"), [(29, 0, "invalid"), (90, 3599, "clock"), (90, 3600, "invalid")]
)
def test_the_doubt_of_a_start_ends(stored_days_ago: int, after_s: int, code: str) -> None:
    clock = ManualClock(NOON_MS)
    times = EventTimes(clock, 30, lambda: NOON_MS - NOON_MS % DAY_MS - stored_days_ago * DAY_MS)
    clock.now_s += after_s
    clock.now_ms += after_s * 1000
    (problem,) = times.judge("a", "d", [event("e", NOON_MS - 40 * DAY_MS)], clock.now_ms).values()
    assert problem.code == code


@pytest.mark.parametrize("ahead_days", [-40, 40])
@pytest.mark.parametrize("accounts", [("a",), ("a", "b")])
def test_where_there_are_too_few_accounts_the_devices_of_each_are_asked_for_again(
    ahead_days: int, accounts: tuple[str, ...]
) -> None:
    fleet = Fleet(ahead_days * DAY_MS)
    for account in accounts:
        for device in ("d1", "d2", "d3"):
            (problem,) = fleet.sends(account, device=device).values()
        assert problem.code == "clock"
        assert problem.retry_after_ms is not None
    assert fleet.times.clock_off
    assert "40.0 days" in fleet.times.problem()
    # Retention does not listen to them, and what fits the clock is taken.
    assert fleet.times.offset_ms is None
    assert fleet.sends("a", event("now", fleet.clock.now_ms)) == {}
    fleet.clock.now_ms -= ahead_days * DAY_MS
    assert fleet.sends("a") == {}
    assert not fleet.times.clock_off


def test_an_account_with_wrong_devices_changes_nothing_for_another_one() -> None:
    fleet = Fleet()
    for number in range(50):
        fleet.sends("wrong", event("e", 0), device=f"d{number}")
    assert fleet.times.clock_off
    assert fleet.sends("right") == {}
    (problem,) = fleet.sends("right", event("old", NOON_MS - 31 * DAY_MS)).values()
    assert (problem.code, problem.retry_after_ms) == ("invalid", None)
    # A fleet is believed more than one account.
    fleet.sends("right")
    fleet.sends("third")
    (problem,) = fleet.sends("wrong", event("e", 0)).values()
    assert problem.code == "invalid"
    assert not fleet.times.clock_off


@pytest.mark.parametrize("step_days", [-40, 40])
def test_a_step_of_our_clock_costs_a_lone_device_nothing(step_days: int) -> None:
    fleet = Fleet()
    assert fleet.sends("a") == {}
    fleet.clock.now_ms += step_days * DAY_MS
    (problem,) = fleet.sends("a").values()
    assert (problem.code, problem.retry_after_ms is not None) == ("clock", True)
    # What no clock would have taken stays refused, and what the new one takes is taken.
    (problem,) = fleet.sends("a", event("e", 0)).values()
    assert problem.code == "invalid"
    assert fleet.sends("a", event("e", fleet.clock.now_ms)) == {}
    # An hour later the new clock is believed.
    fleet.clock.now_s += 3600
    fleet.clock.now_ms += 3_600_000
    (problem,) = fleet.sends("a").values()
    assert problem.code == "invalid"


@pytest.mark.parametrize("accounts", [("a",), ("a", "b", "c")])
def test_a_step_of_our_clock_is_seen_by_the_very_next_event(accounts: tuple[str, ...]) -> None:
    fleet = Fleet()
    for account in accounts:
        assert fleet.sends(account) == {}
    assert fleet.times.problem() == ""
    fleet.clock.now_ms += 40 * DAY_MS
    (problem,) = fleet.times.judge("a", "d", [event("e", NOON_MS)], fleet.clock.now_ms).values()
    assert problem.code == "clock"


def test_a_step_that_is_taken_back_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    fleet.clock.now_ms += 40 * DAY_MS
    (problem,) = fleet.sends("a").values()
    assert problem.code == "clock"
    fleet.clock.now_ms -= 40 * DAY_MS
    assert fleet.sends("a") == {}
    (problem,) = fleet.sends("a", event("e", NOON_MS + 40 * DAY_MS)).values()
    assert problem.code == "invalid"
    assert [record.getMessage() for record in caplog.records].count("clock_stepped") == 1


def test_two_devices_do_not_speak_for_a_lone_account() -> None:
    fleet = Fleet(40 * DAY_MS)
    for device in ("d1", "d2", "d1", "d2"):
        (problem,) = fleet.sends("a", device=device).values()
        assert problem.code == "invalid"
    assert not fleet.times.clock_off


def test_few_wrong_devices_do_not_speak_for_their_account() -> None:
    fleet = Fleet()
    for device in ("d1", "d2", "d3"):
        assert fleet.sends("a", device=device) == {}
    for device in ("w1", "w2"):
        (problem,) = fleet.sends("a", event("e", 0), device=device).values()
        assert problem.code == "invalid"
    assert not fleet.times.clock_off


def test_where_there_is_one_account_a_newer_day_that_is_stored_says_that_our_clock_is_behind() -> None:
    clock = ManualClock(NOON_MS - 40 * DAY_MS)
    stored: list[int | None] = [NOON_MS]
    times = EventTimes(clock, newest_ms=lambda: stored[0])
    (problem,) = times.judge("a", "d", (event("e", NOON_MS),), clock.now_ms).values()
    assert problem.code == "clock"
    # A device may be a day ahead, and stored days of the past say nothing.
    for newest_ms in (clock.now_ms + DAY_MS, clock.now_ms - 40 * DAY_MS, None):
        stored[0] = newest_ms
        clock.now_s += 1
        (problem,) = times.judge("a", "d", (event("e", NOON_MS),), clock.now_ms).values()
        assert problem.code == "invalid"
    # Where accounts say otherwise they are right.
    stored[0] = NOON_MS
    for account in ("a", "b", "c"):
        times.judge(account, "d", (event("e", clock.now_ms),), clock.now_ms)
    clock.now_s += 1
    clock.now_ms += 1000
    assert not times.clock_off


def test_what_else_is_wrong_stays_wrong_while_our_clock_is_off() -> None:
    fleet = Fleet(40 * DAY_MS)
    for account in ("a", "b", "c"):
        fleet.sends(account)
    bad = event("é", fleet.clock.now_ms)
    found = fleet.sends("a", bad, event("old", NOON_MS), event("good", fleet.clock.now_ms))
    assert {position: problem.code for position, problem in found.items()} == {0: "invalid", 1: "clock"}


@pytest.mark.parametrize(
    ("retention_days", "oldest_days", "said"), [(1, 1, "1 day ago"), (5, 5, "5 days"), (90, 30, "30 days")]
)
def test_what_is_older_than_what_is_kept_is_refused(retention_days: int, oldest_days: int, said: str) -> None:
    fleet = Fleet(retention_days=retention_days)
    now_ms = fleet.clock.now_ms + 1000
    assert fleet.sends("a", event("e", now_ms - oldest_days * DAY_MS)) == {}
    (problem,) = fleet.sends("a", event("e", now_ms - oldest_days * DAY_MS)).values()
    assert problem.code == "invalid"
    assert said in problem.text


def test_devices_are_spread_over_a_minute() -> None:
    fleet = Fleet(40 * DAY_MS)
    for account in ("a", "b", "c"):
        fleet.sends(account)
    names = [event(f"e{number}", NOON_MS) for number in range(500)]
    delays = [problem.retry_after_ms or 0 for problem in fleet.sends("a", *names).values()]
    assert min(delays) < RETRY_MS * 1.1
    assert max(delays) > RETRY_MS * 1.9
