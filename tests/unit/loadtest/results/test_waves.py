"""What a deploy did, from simulated seconds."""

from __future__ import annotations

import pytest

from loadtest.fleet.sample import ClientModelCounts, Sample
from loadtest.results import waves
from loadtest.results.recorder import Recorder
from loadtest.results.records import Happened, StepKind, StepRecord, Told, Waved

SPEED = 10.0
# Ten simulated seconds of a hundredth each.
WAVE = Waved(time_ms=1_001_000, number=1, began_ms=1_000_000, speed=SPEED, window_s=5.0, connections=20)
BINS = {9_999: [50, 50], 10_000: [4, 5], 10_003: [8, 7], 10_010: [1, 1], 10_011: [60, 60]}


def test_a_wave_is_judged_by_its_own_seconds_only() -> None:
    found = waves.wave(WAVE, BINS, WAVE.time_ms)
    assert (found.even_per_s, found.peak_per_s, found.peak_at_s, found.ratio) == (4.0, 8, 3.0, 2.0)


def test_without_a_plan_the_lost_connections_are_those_of_the_wave() -> None:
    told = Waved(time_ms=1_001_000, number=1, began_ms=1_000_000, speed=SPEED, window_s=5.0)
    found = waves.wave(told, BINS, told.time_ms)
    assert (found.connections, found.plan_ratio) == (12, None)


def test_a_wave_without_connections_has_no_ratio() -> None:
    told = Waved(time_ms=1_001_000, number=1, began_ms=1_000_000, speed=SPEED, window_s=5.0, connections=0)
    assert waves.wave(told, {}, told.time_ms).ratio is None


def test_the_worst_wave_counts() -> None:
    calm = Waved(1_001_000, 1, 1_000_000, SPEED, 5.0, 40, 8.0, 0.5)
    worse = Waved(1_002_000, 2, 1_001_100, SPEED, 5.0, 40, 30.0, 0.7)
    judged = waves.judge([calm, worse], BINS, None)
    assert [one.peak_per_s for one in judged] == [8, 60]
    values = waves.figures(judged, SPEED, {"gap_p50_ms": 100.0, "gap_p99_ms": None})
    assert values == {
        "connect_peak_per_s": 60,
        "connect_even_per_s": 8.0,
        "connect_peak_ratio": 7.5,
        "connect_peak_limit_ratio": 60 / (8 + 4 * 8**0.5),
        "plan_peak_limit_ratio": 30 / (4 * 30**0.5),
        "plan_peak_ratio": 2.0,
        "balancer_calls_per_s": 0.7,
        "gap_p50_s": 1.0,
        "gap_p99_s": None,
    }


def test_a_deploy_by_weights_counts_moves_by_step() -> None:
    def step(number: int, what: StepKind, weight: float, on_old: int, on_new: int) -> Waved:
        began_ms = 1_000_000 + 1000 * number
        said = StepRecord(what, weight, on_old, on_new, 0.4)
        return Waved(began_ms + 1000, number, began_ms, SPEED, 10.0, step=said)

    told = [step(0, "step", 0.05, 95, 5), step(1, "step", 1.0, 4, 96), step(2, "clean_up", 1.0, 4, 96)]
    bins = {10_002: [24, 25], 10_012: [90, 91], 10_025: [4, 4], 10_030: [0, 100]}
    judged = waves.judge(told, bins, 1_003_050)
    assert [one.lost for one in judged] == [25, 91, 4]
    assert waves.by_weights(judged) == {
        "canary_devices": 5,
        "canary_hops": 0.25,
        "hops": 1.2,
        "clean_up_ratio": 0.04,
        "rollback_late_ratio": None,
        "rollback_moved_ratio": None,
        "deployment_calls_per_s": 0.4,
    }
    back = waves.by_weights(waves.judge([step(0, "rollback", 0.0, 100, 0)], {10_002: [1, 1]}, None))
    assert back["rollback_moved_ratio"] == 0.01


def test_a_step_is_judged_by_what_ended_in_its_own_time() -> None:
    """The five seconds before the next step are none of its own, for the even rate; a peak in them counts."""
    bins = {second: [6, 6] for second in range(10_000, 10_360)} | {10_362: [9, 9]}
    told = Waved(1_036_000, 1, 1_000_000, SPEED, 360.0, step=StepRecord("step", 0.5, 9, 9, gateways=4))
    found = waves.judge([told], bins, 1_036_500)[0]
    assert (found.even_per_s, found.peak_per_s, found.lost) == (6.0, 9, 2169)


@pytest.mark.parametrize(
    ("rate", "gateways", "limit"),
    [(100, 4, 130), (33, 4, 42.9), (8, 4, 13), (6, 2, 9), (8, 40, 8 + 4 * 8**0.5), (8, 0, 8 + 4 * 8**0.5), (0.5, 4, 5)],
)
def test_gateways_that_follow_weights_leave_little_to_chance(rate: float, gateways: int, limit: float) -> None:
    ended = round(rate * 10)
    told = Waved(1_001_000, 1, 1_000_000, SPEED, 10.0, step=StepRecord("step", 0.5, 9, 9, gateways=gateways))
    found = waves.wave(told, {10_005: [ended, ended]}, told.time_ms)
    assert found.limit_ratio == pytest.approx(ended / limit)


def test_the_highest_second_says_whether_the_machine_kept_time() -> None:
    judged = waves.judge([Waved(1_001_000, 1, 1_000_000, SPEED, 5.0, 40)], BINS, None)
    said = waves.of_the_peak(judged, SPEED, {998: 900, 1001: 120, 1002: 5, 1004: 800}, {998: 2.0, 1001: 0.814})
    assert said == (
        "wave 1, 3 s after it began; the fleet's own ticks came up to 1.2 simulated s (120 ms) late then, "
        "and 0.81 s of processor time a second went to other machines"
    )
    assert waves.of_the_peak(judged, SPEED, {}, {998: 2.0}).endswith("(0 ms) late then")
    assert waves.of_the_peak([], SPEED, {}, {}) == ""


def test_a_drawn_second_ends_where_its_real_moment_is() -> None:
    found = waves.simulated(SPEED, BINS, 1000.0, 1000.5)
    assert (found.connects, found.lost) == ([4, 0, 0, 8, 0, 0], [5, 0, 0, 7, 0, 0])
    assert found.at_s(0) == pytest.approx(1000.1)


def test_only_classes_that_take_close_frames_count_as_abnormal() -> None:
    client_models = {
        "esp-idf": ClientModelCounts(5, 5, 0, 5),
        "arduino": ClientModelCounts(3, 3, 0, 2),
        "patient": ClientModelCounts(9, 9, 0, 1),
    }
    assert waves.abnormal(client_models) == 3
    # A token without a class, but a User-Agent of one.
    assert (
        waves.abnormal(
            {"esp-idf-15s": ClientModelCounts(5, 5, 0, 5), "esp-idf-reconnect": ClientModelCounts(5, 5, 0, 2)}
        )
        == 2
    )


def test_processes_add_up_and_the_end_of_the_measured_time_is_kept() -> None:
    recorder = Recorder()
    for number in (1, 2):
        told = Sample(
            process=f"fleet-{number}",
            time_ms=1000,
            devices=2,
            bins=[(7, 1, 0), (8, 2, number)],
            client_models={"patient": ClientModelCounts(2, 2, 0, number)},
        )
        recorder.add(Told(told))
    recorder.add(Happened(1500, "phase", "settle", "settle"))
    later = Sample(process="fleet-1", time_ms=2000, bins=[(8, 0, 1)], client_models={"patient": ClientModelCounts(2)})
    recorder.add(Told(later))
    assert recorder.bins == {7: [2, 0], 8: [4, 4]}
    assert recorder.client_models() == {"patient": ClientModelCounts(4, 4, 0, 3)}


@pytest.mark.parametrize(
    ("rate", "part", "slack"),
    [(100, waves.CALM, 30), (40, waves.CALM, 12), (36, waves.CALM, 24), (1, waves.PLANNED, 4), (0, waves.CALM, 0)],
)
def test_chance_is_allowed_to_few_devices_only(rate: float, part: float, slack: float) -> None:
    assert waves.slack_per_s(rate, part) == pytest.approx(slack)
