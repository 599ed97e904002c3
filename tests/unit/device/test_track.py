from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.device.gpx import Fix, parse
from gateway.device.track import MAX_PAUSE_MS, SPACING_MS, legs

TRACKS = Path(__file__).parents[3] / "loadtest" / "tracks"
BASE_MS = 1_281_018_239_000
LONG_AGO_MS = -2_147_483_647_793


def timed(*times_ms: int | None) -> list[Fix]:
    return [Fix(float(index), 0.0, None, time_ms) for index, time_ms in enumerate(times_ms)]


def pauses(*times_ms: int | None) -> list[int]:
    return [leg.pause_ms for leg in legs(timed(*times_ms))]


def test_pauses_are_as_recorded() -> None:
    assert pauses(BASE_MS, BASE_MS + 7000, BASE_MS + 7500) == [0, 7000, 500]


def test_a_doubled_time_makes_no_pause() -> None:
    assert pauses(BASE_MS, BASE_MS) == [0, 0]


def test_without_a_usable_time_points_are_a_second_apart() -> None:
    assert pauses(None, None, BASE_MS, None, BASE_MS) == [0, 1000, 1000, 1000, 1000]
    assert pauses(LONG_AGO_MS, LONG_AGO_MS) == [0, 1000]
    assert pauses(BASE_MS, BASE_MS - 1) == [0, 1000]


def test_a_night_is_cut_short() -> None:
    assert pauses(BASE_MS, BASE_MS + 8 * 3_600_000) == [0, MAX_PAUSE_MS]


def test_missing_recorded_times_continue_from_their_neighbours() -> None:
    recorded = [leg.recorded_ms for leg in legs(timed(None, None, BASE_MS, None, LONG_AGO_MS, None))]
    assert recorded == [
        BASE_MS - 2000,
        BASE_MS - 1000,
        BASE_MS,
        BASE_MS + 1000,
        LONG_AGO_MS,
        LONG_AGO_MS + 1000,
    ]


def test_a_track_without_any_time_has_none_recorded() -> None:
    assert [leg.recorded_ms for leg in legs(timed(None, None))] == [None, None]


@given(st.lists(st.none() | st.integers(-(2**45), 2**45)))
def test_any_times(times_ms: list[int | None]) -> None:
    made = legs(timed(*times_ms))
    assert [leg.lat for leg in made] == [float(index) for index in range(len(times_ms))]
    assert all(0 <= leg.pause_ms <= MAX_PAUSE_MS for leg in made)
    assert [leg.recorded_ms for leg, given_ms in zip(made, times_ms, strict=True) if given_ms is not None] == [
        given_ms for given_ms in times_ms if given_ms is not None
    ]


def test_a_real_track_from_1901_walks_at_a_second_a_point() -> None:
    made = legs(parse((TRACKS / "Mojstrovka.gpx").read_bytes()).fixes)
    assert {leg.pause_ms for leg in made[1:]} == {SPACING_MS}
