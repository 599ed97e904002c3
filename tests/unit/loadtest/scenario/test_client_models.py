"""Each client model does what the source of the real client says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.device_classes import PRESETS
from loadtest.scenario import client_models
from loadtest.scenario.client_models import CLIENT_MODELS, Ended

NAMES = list(CLIENT_MODELS)

ends = st.builds(
    Ended,
    clean=st.booleans(),
    code=st.sampled_from([1000, 1001, 1006, 1008, 1012, 1013, 4401, 4408, 4409, 4503, 4999]),
    refused_status=st.sampled_from([0, 0, 0, 400, 401, 403, 409, 429, 500, 503]),
    retry_after_s=st.none() | st.floats(0, 3600),
    goaway_after_ms=st.none() | st.integers(-5, 3_600_000),
    uptime_s=st.floats(0, 1e6),
)


def wait(name: str, *history: Ended, trait: float = 0.5, seed: int = 1) -> float | None:
    """The wait after the last of these ends."""
    chance = random.Random(seed)
    retries, wait_s = 0, None
    for ended in history:
        wait_s, retries = CLIENT_MODELS[name].next_attempt(retries, trait, ended, chance)
    return wait_s


BREAK = Ended(uptime_s=100)
FAILED = Ended()


@given(st.sampled_from(NAMES), st.integers(0, 65_535), st.floats(0, 0.999), ends, st.integers())
def test_every_answer_is_a_wait_or_never(name: str, retries: int, trait: float, ended: Ended, seed: int) -> None:
    wait_s, after = CLIENT_MODELS[name].next_attempt(retries, trait, ended, random.Random(seed))
    assert wait_s is None or 0 <= wait_s <= 3600
    assert 0 <= after <= 65_535


@given(st.sampled_from(NAMES), st.floats(0, 0.999), st.lists(ends, min_size=1, max_size=20), st.integers())
def test_the_same_chance_gives_the_same_waits(name: str, trait: float, history: list[Ended], seed: int) -> None:
    assert wait(name, *history, trait=trait, seed=seed) == wait(name, *history, trait=trait, seed=seed)


@given(st.integers(0, 10_000), st.integers(0, 3_600_000))
def test_patient_obeys_goaway_to_the_millisecond(retries: int, after_ms: int) -> None:
    ended = Ended(clean=True, code=1012, goaway_after_ms=after_ms, uptime_s=50)
    assert client_models.patient(retries, 0, ended, random.Random(0)) == (after_ms / 1000, 0)


@given(st.integers(0, 200), st.integers())
def test_patient_backs_off_up_to_a_minute(failures: int, seed: int) -> None:
    wait_s = wait("patient", *[FAILED] * (failures + 1), seed=seed)
    assert wait_s is not None
    assert wait_s <= min(60.0, 2.0**failures)


def test_patient_uses_the_whole_range() -> None:
    waits = [wait("patient", *[FAILED] * 10, seed=seed) or 0.0 for seed in range(500)]
    assert min(waits) < 1
    assert max(waits) > 58
    assert 25 < sum(waits) / len(waits) < 35


@given(st.floats(0, 3600), st.integers(0, 20), st.integers())
def test_patient_never_comes_before_retry_after(retry_after_s: float, failures: int, seed: int) -> None:
    wait_s = wait("patient", *[FAILED] * failures, Ended(refused_status=503, retry_after_s=retry_after_s), seed=seed)
    assert wait_s is not None
    assert wait_s >= retry_after_s


def test_patient_begins_anew_after_a_steady_connection() -> None:
    wait_s = wait("patient", *[FAILED] * 20, BREAK)
    assert wait_s is not None
    assert wait_s <= 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 426, 500, 503])
def test_patient_comes_back_after_every_refusal(status: int) -> None:
    wait_s = wait("patient", Ended(refused_status=status))
    assert wait_s is not None
    assert wait_s >= 1


@pytest.mark.parametrize("ended", [Ended(clean=True, code=4409), Ended(code=1008)])
def test_patient_knows_when_it_is_over(ended: Ended) -> None:
    assert wait("patient", ended) is None


def test_a_replaced_patient_device_stays_away_in_spite_of_a_goaway() -> None:
    assert wait("patient", Ended(clean=True, code=4409, goaway_after_ms=0)) is None


@pytest.mark.parametrize("code", [1000, 1001, 1009, 1012, 4408, 4409, 4503])
@pytest.mark.parametrize("name", ["esp-idf", "esp-idf-15s"])
def test_esp_idf_stops_for_good_after_a_clean_close(name: str, code: int) -> None:
    assert wait(name, Ended(clean=True, code=code, goaway_after_ms=500, uptime_s=9)) is None


@pytest.mark.parametrize("ended", [BREAK, FAILED, Ended(refused_status=503, retry_after_s=60)])
def test_esp_idf_waits_ten_seconds_after_a_break(ended: Ended) -> None:
    assert wait("esp-idf", *[FAILED] * 7, ended) == 10


@pytest.mark.parametrize("ended", [BREAK, FAILED, Ended(refused_status=503, retry_after_s=60)])
def test_esp_idf_up_to_1_7_waits_a_half_more(ended: Ended) -> None:
    assert wait("esp-idf-15s", *[FAILED] * 7, ended) == 15


@pytest.mark.parametrize(
    ("name", "wait_s"),
    [
        ("esp-idf-reconnect", 10),
        ("arduino", 0.5),
        ("arduino-5s", 5),
        ("tiny", 0),
        ("micropython", 1),
        ("mongoose", 3),
        ("naive", 0),
        ("deaf", 0.5),
    ],
)
@given(ended=ends)
def test_some_wait_the_same_whatever_happens(name: str, wait_s: float, ended: Ended) -> None:
    assert wait(name, *[FAILED] * 3, ended) == wait_s


@given(ends)
def test_gun_never_waits_after_an_answer(ended: Ended) -> None:
    answered = ended if ended.uptime_s > 0 else ended._replace(refused_status=503)
    assert wait("gun", *[FAILED] * 3, answered) == 0


def test_gun_ends_after_five_attempts_without_an_answer() -> None:
    waits = [wait("gun", BREAK, *[FAILED] * count) for count in range(7)]
    assert waits == [0, 5, 5, 5, 5, 5, None]


def test_browser_grows_by_three_tenths_up_to_ten_seconds() -> None:
    waits = [wait("browser", *[FAILED] * count, trait=0.25) for count in range(1, 12)]
    assert waits == [pytest.approx(min(10, 2 * 1.3**count)) for count in range(11)]


@given(st.floats(0, 0.999))
def test_browser_begins_with_what_it_drew_at_its_start(trait: float) -> None:
    assert wait("browser", BREAK, trait=trait) == pytest.approx(1 + 4 * trait)


def test_browser_forgets_its_failures_only_after_five_seconds() -> None:
    assert wait("browser", *[FAILED] * 5, Ended(uptime_s=4.9), trait=0) == pytest.approx(1.3**5)
    assert wait("browser", *[FAILED] * 5, Ended(uptime_s=5.0), trait=0) == 1


def test_only_patient_obeys_goaway() -> None:
    assert [name for name in NAMES if CLIENT_MODELS[name].obeys_goaway] == ["patient"]


def test_classes_of_the_client_models_are_those_that_ship() -> None:
    known = {client_model.device_class for client_model in CLIENT_MODELS.values()} - {""}
    assert known <= set(PRESETS)


def test_what_a_client_model_offers_unasked_is_what_its_class_expects() -> None:
    for client_model in CLIENT_MODELS.values():
        if client_model.subprotocol is not None:
            assert client_model.subprotocol in PRESETS[client_model.device_class].subprotocols.split(",")
        if client_model.receive_bytes:
            preset = PRESETS[client_model.device_class or "esp-idf"]
            assert preset.max_frame_bytes <= client_model.receive_bytes
