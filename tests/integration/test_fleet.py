"""A fleet process against real gateways: everything arrives, whatever breaks on the way."""

from __future__ import annotations

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.wire.close_codes import HEARTBEAT_TIMEOUT
from loadtest.fleet.acked import read as read_acked
from loadtest.fleet.histogram import Latencies
from loadtest.fleet.sample import Sample
from loadtest.processes.ports import free_port
from tests.support.certificate import make_certificate
from tests.support.fleet_program import DEVICES, FleetProgram, fleet
from tests.support.program import Program, eventually

# Tests come back more often than devices should.
OPEN_HOUSE = ("connections.flap_limit=0",)


def acked_ids(path: Path) -> set[tuple[str, str]]:
    """Device and id of every acked event, from the file a fleet leaves."""
    found = list(read_acked(path))
    assert {account for account, _, _ in found} == {"default"}
    return {(device, name) for _, device, name in found}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One gateway for the fleets that only need some."""
    with Program(tmp_path_factory.mktemp("gateway") / "data", *OPEN_HOUSE) as program:
        yield program


def judge(last: Sample, path: Path, program: Program) -> None:
    """Every event of this fleet was acked, and is found exactly once."""
    assert last.sent == last.acked > 0
    assert (last.lost, last.nacked, last.connected) == (0, 0, 0)
    ids = acked_ids(path)
    assert len(ids) == last.acked
    [run] = {name.rpartition(".")[0] for _, name in ids}
    of_run = [event for event in program.found() if event["id"].startswith(f"{run}.")]
    found = Counter((event["device"], event["id"]) for event in of_run)
    assert set(found.values()) == {1}
    assert set(found) == ids


def with_key_of(program: Program, folder: Path) -> Path:
    """A new data folder whose gateway takes the same tokens."""
    folder.mkdir(mode=0o700)
    shutil.copy(program.folder / "key", folder / "key")
    return folder


def test_everything_sent_is_acked_and_found_once(gateway: Program, tmp_path: Path) -> None:
    acked = tmp_path / "acked"
    latencies = Latencies()
    with fleet(gateway, acked_file=str(acked)) as subject:
        subject.tell("connect")
        subject.until(lambda told: told.connected == DEVICES)
        subject.tell("send")
        subject.until(lambda told: told.sent >= 3 * DEVICES)
        last = subject.finish()
        judge(last, acked, gateway)
    assert last.unexpected == 0
    assert last.closed == {"1000": DEVICES}
    for told in subject.samples:
        latencies.add(told.ack)
    assert latencies.count == last.acked
    assert all(told.time_ms % 200 == 0 for told in subject.samples[:-1])


def test_a_killed_gateway_loses_nothing(tmp_path: Path) -> None:
    acked, port = tmp_path / "acked", free_port()
    settings = (*OPEN_HOUSE, f"listen.public=127.0.0.1:{port}")
    client_models = {"patient": 0.5, "arduino": 0.3, "browser": 0.2}
    with Program(tmp_path / "data", *settings) as first:
        context = fleet(first, acked_file=str(acked), client_models=client_models, speed=4)
        subject = context.__enter__()
        try:
            subject.tell("connect")
            subject.tell("send")
            subject.until(lambda told: told.acked >= DEVICES)
            first.kill()
            broken = subject.until(lambda told: told.connected == 0 and told.waiting >= DEVICES)
            assert broken.unexpected == DEVICES
            assert broken.closed == {"1006": DEVICES}
            with Program(tmp_path / "data", *settings) as second:
                subject.until(lambda told: told.connected == DEVICES)
                subject.until(lambda told: told.waiting == 0)
                last = subject.finish()
                judge(last, acked, second)
        finally:
            context.__exit__(None, None, None)
    assert last.connects == 2 * DEVICES
    gaps = Latencies()
    for told in subject.samples:
        gaps.add(told.gap)
    assert gaps.count == DEVICES


def test_goaway_is_obeyed(tmp_path: Path) -> None:
    acked = tmp_path / "acked"
    with (
        Program(tmp_path / "one", *OPEN_HOUSE) as old,
        Program(with_key_of(old, tmp_path / "two"), *OPEN_HOUSE) as new,
        fleet(old, acked_file=str(acked)) as subject,
    ):
        subject.tell("connect")
        subject.tell("send")
        subject.until(lambda told: told.connected == DEVICES and told.acked >= DEVICES)
        subject.tell("targets", urls=[new.url])
        old.process.send_signal(signal.SIGTERM)
        moved = subject.until(lambda told: told.connects == 2 * DEVICES)
        assert (moved.goaways, moved.unexpected) == (DEVICES, 0)
        last = subject.finish()
        assert last.sent == last.acked
        # The device's close frame and the gateway's cross; what a device sees is the one that came.
        assert last.closed.keys() <= {"1000", "1001"}
        assert sum(last.closed.values()) == 2 * DEVICES
        ids = acked_ids(acked)
        assert ids >= {(event["device"], event["id"]) for event in new.found()}


@pytest.mark.parametrize("how", ["reset", "fin"])
def test_a_third_is_cut_and_comes_back(gateway: Program, tmp_path: Path, how: str) -> None:
    acked = tmp_path / "acked"
    with fleet(gateway, acked_file=str(acked)) as subject:
        subject.tell("connect")
        subject.tell("send")
        subject.until(lambda told: told.connected == DEVICES)
        subject.tell("cut", fraction=1 / 3, how=how)
        subject.until(lambda told: told.connects == DEVICES + 67 and told.connected == DEVICES)
        assert subject.samples[-1].closed == {"1006": 67}
        last = subject.finish()
        judge(last, acked, gateway)
    assert last.unexpected == 0


def test_a_target_is_cut_and_others_take_over(tmp_path: Path) -> None:
    with (
        Program(tmp_path / "one", *OPEN_HOUSE) as one,
        Program(with_key_of(one, tmp_path / "two"), *OPEN_HOUSE) as two,
        fleet(one, two) as subject,
    ):
        subject.tell("connect")
        subject.until(lambda told: told.connected == DEVICES)
        subject.tell("targets", urls=[two.url])
        subject.tell("cut_target", url=one.url)
        subject.until(lambda told: told.connects == DEVICES + DEVICES // 2 and told.connected == DEVICES)
        one.terminate()
        subject.tell("nonsense")
        last = subject.finish()
    assert (last.unexpected, last.goaways) == (DEVICES // 2, 0)
    assert last.client_models["patient"].abnormal == DEVICES // 2
    assert sum(connects for sample in subject.samples for _, connects, _ in sample.bins) == DEVICES + DEVICES // 2
    assert [event["event"] for event in subject.events].count("bad_command") == 1


def test_an_esp_idf_device_never_returns_from_a_clean_close(tmp_path: Path) -> None:
    with (
        Program(
            tmp_path / "data", *OPEN_HOUSE, "drain.stop_timeout_s=11", "device_classes.esp-idf.close=frame:1001"
        ) as program,
        fleet(program, client_models={"esp-idf": 1.0}) as subject,
    ):
        subject.tell("connect")
        subject.tell("send")
        subject.until(lambda told: told.connected == DEVICES)
        program.terminate()
        over = subject.until(lambda told: told.given_up == DEVICES)
        assert over.goaways == DEVICES
        assert over.unexpected == 0
        subject.until(lambda told: told.waiting > 0)
        last = subject.finish()
    assert (last.in_flight, last.waiting, last.given_up) == (0, 0, 0)
    named = [name for event in subject.events if event["event"] == "lost" for name in event["ids"]]
    assert len(named) == min(100, last.lost) > 0


def test_misbehaving_devices_end_well(gateway: Program, tmp_path: Path) -> None:
    acked = tmp_path / "acked"
    silence = {"half_open": 0.2, "half_open_s": 1, "half_open_after_min_s": 0, "half_open_after_max_s": 1}
    options = {"slow_readers": 0.2, "churn_period_s": 1.5, **silence}
    with (
        fleet(gateway, acked_file=str(acked), **options) as subject,
    ):
        subject.tell("connect")
        subject.tell("send")
        subject.until(lambda told: told.connects >= 2 * DEVICES)
        last = subject.finish()
        judge(last, acked, gateway)
    assert last.unexpected == 0


def test_sigterm_ends_it_like_stop(gateway: Program) -> None:
    with fleet(gateway) as subject:
        subject.tell("connect")
        subject.tell("send")
        subject.until(lambda told: told.acked >= DEVICES)
        subject.process.terminate()
        last = subject.wait()
    assert last.sent == last.acked
    assert last.connected == 0


def refused(subject: FleetProgram) -> tuple[int, str]:
    """How it ended, and what it said."""
    while subject.take():
        pass
    (event,) = subject.events
    assert event["event"] == "error"
    assert event["message"] in subject.error()
    return subject.process.wait(10), event["message"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": 10_000_000}, "$.devices"),
        ({"devices": 999_999}, "open files"),
        ({"device": 5}, "device"),
        ({"client_models": {"esp8266": 1.0}}, "esp-idf"),
        ({"client_models": {"patient": 0.5}}, "0.5"),
        ({"urls": ["http://127.0.0.1/ws"]}, "ws://"),
        ({"secret": "short"}, "32 bytes"),
        ({"secret": ""}, "token_command"),
        ({"connect": {"kind": "poisson"}}, "$.connect.rate_per_s"),
        ({"tracks": "/nowhere.gpx"}, "/nowhere.gpx"),
        ({"token_command": ["/nowhere"], "secret": ""}, "/nowhere"),
        ({"token_command": ["true"], "secret": ""}, "0 tokens for 200"),
    ],
)
def test_wrong_options_are_said_before_anything_happens(options: dict[str, Any], said: str) -> None:
    with fleet(**{"urls": ["ws://127.0.0.1:9/ws"], **options}) as subject:
        code, message = refused(subject)
    assert code == 2
    assert said in message


def test_a_target_that_refuses_is_named() -> None:
    url = f"ws://127.0.0.1:{free_port()}/ws"
    with fleet(urls=[url]) as subject:
        code, message = refused(subject)
    assert code == 3
    assert url in message
    assert "gateway" in message


def test_a_wrong_token_is_said(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program, fleet(program, secret="y" * 40) as subject:
        code, message = refused(subject)
        assert program.metrics().get("websocket_connects_total", 0) == 0
    assert code == 3
    assert "401" in message
    assert "secret" in message


def test_devices_speak_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    settings = (f"listen.tls_certificate_file={certificate}", f"listen.tls_key_file={key}")
    acked = tmp_path / "acked"
    with Program(tmp_path / "data", *OPEN_HOUSE, *settings) as program:
        urls = [program.url.replace("ws:", "wss:")]
        with fleet(program, urls=urls) as stranger:
            code, message = refused(stranger)
        assert (code, "tls_ca_file" in message) == (3, True)
        with fleet(program, urls=urls, tls_ca_file=str(certificate), acked_file=str(acked)) as subject:
            subject.tell("connect")
            subject.tell("send")
            subject.until(lambda told: told.connected == DEVICES and told.acked >= DEVICES)
            subject.tell("cut", fraction=0.5)
            subject.until(lambda told: told.connects == DEVICES * 3 // 2 and told.connected == DEVICES)
            judge(subject.finish(), acked, program)


def test_a_silent_path_is_left_and_nothing_is_lost(gateway: Program, tmp_path: Path) -> None:
    acked = tmp_path / "acked"
    with (
        fleet(gateway, acked_file=str(acked), half_open_s=1.5) as subject,
    ):
        subject.tell("connect")
        subject.tell("send")
        subject.until(lambda told: told.connected == DEVICES)
        subject.tell("cut", fraction=0.5, how="silent")
        subject.until(lambda told: told.connects == DEVICES * 3 // 2 and told.connected == DEVICES)
        last = subject.finish()
        judge(last, acked, gateway)
    assert last.unexpected == 0


def test_what_came_while_it_stood_still_is_read_before_a_gateway_is_given_up(tmp_path: Path) -> None:
    settings = ("connections.heartbeat_s=1", "connections.close_timeout_s=0.5")
    with Program(tmp_path / "data", *OPEN_HOUSE, *settings) as program, fleet(program) as subject:
        subject.tell("connect")
        subject.until(lambda told: told.connected == DEVICES)
        subject.process.send_signal(signal.SIGSTOP)
        # The devices are taken for dead by now, and are told so.
        eventually(lambda: program.metrics()["heiwa_connections"] == 0)
        subject.process.send_signal(signal.SIGCONT)
        back = subject.until(lambda told: told.connects == 2 * DEVICES)
        assert back.closed == {str(HEARTBEAT_TIMEOUT): DEVICES}
        subject.finish()


def test_tokens_may_come_from_a_command(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from gateway.identity.key_files import local_key\n"
        "from gateway.identity.token import mint\n"
        f"key = local_key(Path({str(tmp_path / 'data')!r}))\n"
        "for name in sys.stdin.read().split():\n"
        "    claims = {'sub': name, 'account': 'default', 'scope': 'location:write', 'exp': time.time() + 60}\n"
        "    print(mint(claims, key))\n"
    )
    command = [sys.executable, "-c", code]
    with (
        Program(tmp_path / "data", *OPEN_HOUSE) as program,
        fleet(program, secret="", token_command=command) as subject,
    ):
        subject.tell("connect")
        subject.until(lambda told: told.connected == DEVICES)
        assert subject.finish().closed == {"1000": DEVICES}
