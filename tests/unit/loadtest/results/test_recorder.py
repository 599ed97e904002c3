"""The samples of many fleet processes become one run: sums, differences, latencies, deaths, and figures."""

from __future__ import annotations

import pytest

from loadtest.fleet.sample import Sample
from loadtest.results import records
from loadtest.results.recorder import LATE_S, SILENT_S, Recorder
from loadtest.results.records import KernelReading, RunRecord
from loadtest.results.result import figures, result
from tests.support.recordings import (
    ZERO_S,
    a_run,
    begin,
    encoded,
    happened,
    judged,
    kernel,
    phase,
    process,
    recorder,
    told,
)


def test_processes_add_up_each_second() -> None:
    made = recorder(
        told(0, "a", connected=3, sent=5, closed={"1006": 1}),
        told(0, "b", connected=4, sent=6, closed={"1006": 2, "1000": 1}),
        told(1, "a", connected=2, sent=7, closed={"1006": 2}),
        told(1, "b", connected=4, sent=9, closed={"1006": 2, "1000": 1}),
    )
    first, second = made.seconds()
    assert (first.time_s, first.connected, first.sent) == (ZERO_S, 7, 11)
    assert first.closed == {"1006": 3, "1000": 1}
    assert (second.connected, second.sent, second.closed) == (6, 16, {"1006": 4, "1000": 1})


def test_a_process_that_says_nothing_for_a_second_stands_where_it_stood() -> None:
    made = recorder(
        told(0, "a", connected=3), told(0, "b", connected=4), told(1, "b", connected=5), told(2, "a", connected=1)
    )
    assert [second.connected for second in made.seconds()] == [7, 8, 6]


def test_a_process_that_died_holds_no_connections_and_keeps_its_counts() -> None:
    made = recorder(
        told(0, "a", connected=3, acked=9),
        told(0, "b", connected=4, acked=1),
        happened(1, "died", "gone", "a"),
        told(1, "b", connected=4, acked=2),
        told(2, "b", connected=4, acked=3),
    )
    assert [(second.connected, second.acked) for second in made.seconds()] == [(7, 10), (4, 11), (4, 12)]
    assert made.totals()["connected"] == 4
    assert made.totals()["acked"] == 12


def test_a_process_that_falls_silent_is_not_counted_for_ever() -> None:
    made = recorder(told(0, "a", connected=3), *(told(at_s, "b", connected=1) for at_s in range(SILENT_S + 2)))
    connected = [second.connected for second in made.seconds()]
    assert connected[SILENT_S - 1] == 4
    assert connected[SILENT_S] == 1


def test_histograms_of_a_second_and_of_the_run_add_up() -> None:
    made = recorder(
        told(0, "a", ack=encoded(*[1] * 99)),
        told(0, "b", ack=encoded(100)),
        told(1, "a", ack=encoded(7)),
    )
    first, second = made.seconds()
    assert first.ack_p50_ms == pytest.approx(1, rel=0.002)
    assert first.ack_max_ms == pytest.approx(100, rel=0.002)
    assert second.ack_p99_ms == pytest.approx(7, rel=0.002)
    assert made.latencies["ack"].count == 101
    assert second.gap_p99_ms is None


def test_what_comes_too_late_still_counts_in_the_whole() -> None:
    late = told(0, "a", acked=5, ack=encoded(9))
    made = recorder(*(told(at_s, "b", acked=1) for at_s in range(LATE_S + 3)), late)
    assert made.seconds()[0].ack_p50_ms is None
    assert made.latencies["ack"].count == 1
    assert made.totals()["acked"] == 6


def test_a_second_is_shown_once_the_later_ones_have_come() -> None:
    made = Recorder()
    for at_s in range(LATE_S + 2):
        made.add(told(at_s, connected=at_s))
    now = made.now()
    assert now is not None
    assert now.time_s == ZERO_S + 0


def test_an_empty_recorder_has_nothing() -> None:
    assert Recorder().seconds() == []
    assert figures(Recorder(), [])["sent"] == 0
    with pytest.raises(ValueError, match="no run"):
        result(Recorder(), [])


@pytest.mark.parametrize(("away_s", "connected"), [(1, 10), (4, 10), (5, 9)])
def test_who_is_on_the_way_back_at_the_end_is_not_missing(away_s: int, connected: int) -> None:
    last = [told(at_s, devices=10, connected=9, connects=10) for at_s in range(20 - away_s, 20)]
    made = recorder(*a_run(20), *last)
    assert figures(made, made.seconds())["connected"] == connected


def test_a_whole_run_has_its_figures() -> None:
    made = recorder(*a_run(thresholds=["connected_min == devices", "ack_p99_ms < 200", "lost == 0"]))
    seconds = made.seconds()
    found = result(made, seconds)
    values = found.figures
    assert values["devices"] == values["connected"] == values["connected_min"] == values["connected_max"] == 10
    assert values["connect_peak_per_s"] == 10
    assert values["reconnect_peak_per_s"] == 0
    assert values["ack_p50_ms"] == pytest.approx(5, rel=0.002)
    assert values["gateway_base_bytes"] == 50_000_000
    assert values["gateway_bytes_per_connection"] == 2000
    assert values["fleet_bytes_per_connection"] == 1000
    assert values["kernel_bytes_per_connection"] == 8000
    assert values["gateway_cpu_us_per_connection_s"] == pytest.approx(0.1 / 10 * 1e6)
    assert values["unaccounted"] == values["lost"] == values["processes_died"] == 0
    assert [verdict.held for verdict in found.verdicts] == [True, True, True]
    assert not found.missed
    assert found.stopped_by == ""


def test_what_the_hypervisor_gave_to_others_counts_in_the_measured_time_of_one_machine() -> None:
    stolen = [kernel(1, 0, 50.0), kernel(5, 0, 52.0), kernel(6, 0, 52.5), kernel(9, 0, 52.8)]
    lines = [line for line in a_run(12) if not isinstance(line, KernelReading)]
    of_one = recorder(*lines[:1], kernel(0, 0, 9.0), *stolen, *lines[1:])
    found = {second - ZERO_S: taken_s for second, taken_s in of_one.machine.stolen_s().items()}
    assert found == {1: 41.0, 5: 0.5, 6: 0.5, 9: pytest.approx(0.1)}
    assert figures(of_one, of_one.seconds())["stolen_max_s"] == 0.5
    of_two = recorder(*lines[:1], begin(share="2/2"), *stolen, *lines[1:])
    assert figures(of_two, of_two.seconds())["stolen_max_s"] is None


def test_every_event_is_accounted_for() -> None:
    made = recorder(begin(), told(0, sent=20, acked=10, nacked=1, in_flight=2, waiting=3, lost=3, resent=8))
    values = figures(made, made.seconds())
    assert values["unaccounted"] == 1
    assert (values["waiting"], values["dropped"], values["resent"]) == (3, 3, 8)


def test_lost_is_what_no_store_has_and_what_devices_dropped() -> None:
    made = recorder(begin(), told(0, sent=9, acked=7, lost=2), judged(acked=7, stored=6, lost=1, copies=4, doubled=1))
    values = figures(made, made.seconds())
    assert (values["lost"], values["doubled"], values["copies"]) == (3, 1, 4)
    assert figures(recorder(told(0, lost=2)), [])["lost"] is None


def test_recovery_is_measured_from_the_action() -> None:
    lines: list[RunRecord] = [begin(), phase(0, "connect"), phase(1, "measure")]
    for at_s, connected in enumerate((9, 9, 9, 9, 6, 7, 9, 9)):
        if at_s == 4:
            lines.append(happened(4.2, "action", "cut"))
        lines.append(told(at_s, connected=connected, connects=9 + at_s * (at_s > 4)))
    made = recorder(*lines, phase(8, "settle"))
    values = figures(made, made.seconds())
    assert values["recovered_s"] == 2
    assert values["connected_min"] == 6
    assert values["connect_peak_per_s"] == 9


def test_what_never_recovers_has_no_time() -> None:
    lines: list[RunRecord] = [begin(), phase(0, "measure"), told(1, connected=9), happened(2, "action", "cut")]
    made = recorder(*lines, told(2, connected=6), told(3, connected=8))
    assert figures(made, made.seconds())["recovered_s"] is None


def test_shares_of_several_machines_merge_in_order_of_time() -> None:
    one: list[RunRecord] = [
        begin("1/2", 5),
        phase(0, "measure"),
        *(told(at_s, "fleet-1.1", connected=5) for at_s in range(9)),
    ]
    two: list[RunRecord] = [
        begin("2/2", 6),
        phase(1, "measure"),
        *(told(at_s, "fleet-2.1", connected=6) for at_s in range(9)),
    ]
    made = recorder(*records.merge([iter(one), iter(two)]))
    found = result(made, made.seconds())
    assert found.shares == ["1/2", "2/2"]
    assert found.figures["devices"] == 11
    assert found.figures["connected_max"] == 11
    assert made.phase("measure") == ZERO_S + 1


def test_records_survive_being_written_and_read() -> None:
    lines = [*a_run(3), process(1, "x", "conductor", 1, 2), kernel(1, 2)]
    assert list(records.read(records.encode(line) for line in lines)) == lines


def test_a_line_cut_off_by_a_crash_is_left_out() -> None:
    whole = records.encode(told(0, connected=3))
    assert list(records.read([whole, whole[:-5]])) == [told(0, connected=3)]


def test_a_broken_line_in_the_middle_is_an_error() -> None:
    whole = records.encode(told(0))
    with pytest.raises(ValueError, match="line 2"):
        list(records.read([whole, b"{", whole]))


def test_usage_knows_which_processes_died() -> None:
    made = recorder(
        process(0, "g", "gateway", 1, 100), process(1, "g", "gateway", 2, 300), process(2, "g", "gateway", 3, 200)
    )
    made.add(happened(3, "died", "killed", "g"))
    [usage] = made.usage()
    assert (usage.died, usage.cpu_s, usage.base_rss_bytes, usage.max_rss_bytes) == (True, 3, 100, 300)


def test_a_sample_without_a_name_of_its_own_is_one_process() -> None:
    made = recorder(told(0, connected=1), told(1, connected=2))
    assert list(made.last) == ["fleet-1.1"]
    assert isinstance(made.last["fleet-1.1"], Sample)


def test_the_latencies_of_healthy_devices_stand_alone() -> None:
    made = recorder(told(0, ack=encoded(10, 20, 30), faulty_ack=encoded(9000)))
    [second] = made.seconds()
    assert second.ack_max_ms == pytest.approx(9000, rel=0.01)
    values = figures(made, [second])
    assert values["ack_max_ms"] == pytest.approx(9000, rel=0.01)
    assert values["healthy_ack_max_ms"] == pytest.approx(30, rel=0.01)
    assert values["healthy_ack_p50_ms"] == pytest.approx(20, rel=0.01)


def test_shares_that_looked_into_the_same_stores_count_what_they_saw_once() -> None:
    first = judged(lost=1, doubled=2, copies=3, doubled_ids=["a 1"], through=["http://b", "http://c"])
    last = judged(lost=1, doubled=3, copies=5, doubled_ids=["a 1", "a 2"], through=["http://b", "http://c"])
    found = result(recorder(begin("1/2"), begin("2/2"), first, last), [])
    assert (found.figures["lost"], found.figures["doubled"], found.figures["copies"]) == (2, 3, 5)
    assert found.doubled_ids == ["a 1", "a 2"]
    elsewhere = judged(doubled=1, copies=1, through=["http://d"])
    values = figures(recorder(begin(), first, last, elsewhere), [])
    assert (values["doubled"], values["copies"]) == (4, 6)


def test_shares_with_gateways_of_their_own_add_up() -> None:
    values = figures(recorder(begin("1/2"), begin("2/2"), judged(doubled=2, copies=1), judged(doubled=1)), [])
    assert (values["doubled"], values["copies"]) == (3, 1)
