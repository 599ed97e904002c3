from gateway.locations.fleet_time import FORGET_S, MAX_ACCOUNTS, MAX_DEVICES, MIN_ACCOUNTS, MIN_DEVICES, FleetTime
from tests.support.locations import DAY_MS, NOON_MS


def fleet(*offsets_ms: int, now_s: float = 0.0) -> FleetTime:
    """A reading of an account each."""
    made = FleetTime()
    for number, offset_ms in enumerate(offsets_ms):
        made.seen(f"account{number}", "d", NOON_MS + offset_ms, now_s)
    return made


def test_one_account_never_decides() -> None:
    made = FleetTime()
    for _ in range(1000):
        made.seen("a", "d", NOON_MS + 40 * DAY_MS, 0.0)
    assert made.offset_ms(NOON_MS, 0.0) is None
    made.seen("b", "d", NOON_MS, 0.0)
    made.seen("c", "d", NOON_MS + 5, 0.0)
    assert MIN_ACCOUNTS == 3
    assert made.offset_ms(NOON_MS, 0.0) == 5


def test_the_median_of_accounts_counts() -> None:
    assert fleet(0, 10, 40 * DAY_MS).offset_ms(NOON_MS, 0.0) == 10
    assert fleet(-40 * DAY_MS, 10, 40 * DAY_MS, 40 * DAY_MS, 40 * DAY_MS).offset_ms(NOON_MS, 0.0) == 40 * DAY_MS


def test_one_device_of_an_account_does_not_speak_for_it() -> None:
    made = fleet(0, 0, 0)
    for number in range(3):
        made.seen(f"account{number}", "other", NOON_MS, 0.0)
        for _ in range(40):
            made.seen(f"account{number}", "broken", NOON_MS + 40 * DAY_MS, 0.0)
    assert made.offset_ms(NOON_MS, 0.0) == 0


def test_a_step_of_our_clock_is_seen_at_once() -> None:
    made = fleet(0, 0, 0)
    assert made.offset_ms(NOON_MS + 40 * DAY_MS + 1000, 1.0) == -40 * DAY_MS
    assert made.offset_ms(NOON_MS + 1000, 1.0) == 0


def test_readings_are_forgotten() -> None:
    made = fleet(0, 0, 0)
    assert made.offset_ms(NOON_MS, FORGET_S) is not None
    assert made.offset_ms(NOON_MS, FORGET_S + 1) is None


def test_the_table_is_bounded_and_the_stalest_goes_first() -> None:
    made = fleet(7, 7, 7, now_s=0.0)
    for number in range(MAX_ACCOUNTS):
        made.seen(f"new{number}", "d", NOON_MS, 1.0)
    assert len(made._accounts) == MAX_ACCOUNTS
    made.seen("one more", "d", NOON_MS, 1.5)
    assert "one more" not in made._accounts
    made.seen("one more", "d", NOON_MS, 2.0)
    assert "one more" in made._accounts
    assert len(made._accounts) == MAX_ACCOUNTS
    assert "account2" in made._accounts
    assert "account0" not in made._accounts


def test_an_account_with_several_devices_decides_about_its_own_where_there_is_no_fleet() -> None:
    made = fleet(0)
    for number in range(MIN_DEVICES - 1):
        made.seen("a", f"d{number}", NOON_MS - 40 * DAY_MS, 0.0)
        assert made.own_offsets_ms(NOON_MS, 0.0) == {}
    made.seen("a", "last", NOON_MS - 40 * DAY_MS, 0.0)
    assert made.own_offsets_ms(NOON_MS, 0.0) == {"a": -40 * DAY_MS}
    assert made.offset_ms(NOON_MS, 0.0) is None
    assert made.own_offsets_ms(NOON_MS, FORGET_S + 1) == {}
    made.seen("third", "d", NOON_MS, 0.0)
    assert made.own_offsets_ms(NOON_MS, 0.0) == {}


def test_the_devices_that_were_heard_last_count() -> None:
    made = FleetTime()
    for number in range(1000):
        made.seen("a", f"d{number}", NOON_MS + (0 if number < 1000 - MAX_DEVICES else 7), 0.0)
    assert made.own_offsets_ms(NOON_MS, 0.0) == {"a": 7}
    assert len(made._accounts["a"].apart_ms) == MAX_DEVICES
