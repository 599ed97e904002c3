"""The load test as a person runs it: real gateways, real fleets of a few devices, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import HeiwaError
from loadtest.processes.fleets import STOP_TIMEOUT_S
from loadtest.results.records import Happened
from loadtest.results.result import RunResult
from loadtest.run import folder
from loadtest.run.conductor import Conductor
from loadtest.run.live import PlainView
from loadtest.run.options import RunOptions
from loadtest.scenario.parsing import parse
from tests.support import fake_fleet
from tests.support.loadtests import ROOT, TIMEOUT_S, result_of, run
from tests.support.program import Program, eventually
from tests.support.redis_server import redis_binary

QUICK = (
    "--devices",
    "30",
    "--for",
    "2s",
    "--seed",
    "7",
    "--set",
    "events.period_s=0.5",
    "--set",
    "run.sample_period_s=0.2",
)
FAKE = (sys.executable, fake_fleet.__file__)


def lines_of(path: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind that are there by now."""
    text = (path / folder.SAMPLES).read_text()
    found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in found if line["line"] == kind]


def started(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run that goes on and measures."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.cli", "run", "steady", *QUICK, *arguments, "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    samples = tmp_path / "out" / folder.SAMPLES
    eventually(lambda: samples.exists() and '"name":"measure"' in samples.read_text(), 60, "it did not begin")
    return process


def test_steady_runs_and_leaves_a_report(tmp_path: Path) -> None:
    done = run("run", "steady", *QUICK, "--gateways", "2", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held   connected_min == devices: 30" in done.stdout
    assert "\x1b" not in done.stdout
    result = result_of(tmp_path / "out")
    figures = result.figures
    assert figures["connected_max"] == 30
    assert (figures["acked"] or 0) >= 60
    assert figures["sent"] == figures["acked"]
    assert figures["lost"] == figures["doubled"] == figures["copies"] == 0
    assert {process.role for process in result.processes} == {"gateway", "fleet", "conductor"}
    assert (tmp_path / "out" / folder.REPORT).exists()
    assert "heiwa_loadtest_acked" in (tmp_path / "out" / folder.METRICS).read_text()
    # Nothing is left that could be taken for something to keep, the secret above all.
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".log"}
    assert names == {folder.SAMPLES, folder.RESULT, folder.METRICS, folder.REPORT}


def test_a_missed_threshold_is_exit_99(tmp_path: Path) -> None:
    done = run(
        "run", "steady", *QUICK, "--set", "thresholds=['ack_p99_ms < 0.001']", "--out", "out", "--json", cwd=tmp_path
    )
    assert done.returncode == 99
    [verdict] = json.loads(done.stdout)["verdicts"]
    assert verdict["held"] is False
    assert verdict["margin"] < 0


def test_node_loss_loses_nothing(tmp_path: Path) -> None:
    cut = "actions=[{at_s=1,do='cut',fraction=0.5},{at_s=3,do='kill_gateway',gateway=1}]"
    done = run(
        *("run", "node-loss", *QUICK, "--for", "6s", "--gateways", "2", "--set", cut, "--out", "out"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = result_of(tmp_path / "out")
    assert result.closed["1006"] >= 30
    assert result.figures["connects"] == 30 + result.closed["1006"]
    assert [event.text for event in result.events if event.what == "action"] == [
        "cut 50.0% of all connections (reset)",
        "killed gateway-1.1",
    ]


def test_a_broker_that_goes_takes_nothing_with_it(tmp_path: Path) -> None:
    redis_binary()
    actions = "actions=[{at_s=1,do='kill_broker'},{at_s=3,do='start_broker'},{at_s=6,do='freeze_broker'},"
    actions += "{at_s=9.5,do='start_broker'}]"
    # A loaded machine is no defect: what counts here is that nothing is lost, and that all of it is told.
    few = ("--set", "lamps.each=2", "--set", "thresholds=['commands_doubled == 0', 'lost == 0']")
    given = (*QUICK, "--for", "12s", "--gateways", "2", "--set", actions, *few)
    done = run("run", "broker-loss", *given, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = result_of(tmp_path / "out")
    figures = result.figures
    assert (figures["commands"] or 0) > 100
    assert figures["connected_min"] == 30
    assert figures["unexpected_close"] == 0
    assert figures["broker_back_s"] is not None
    assert figures["command_remote_p50_ms"] is not None
    assert [event.text for event in result.events if event.what == "action"] == [
        f"{what} the broker" for what in ("kill", "start", "freeze", "start")
    ]


def test_ctrl_c_ends_in_order_with_a_report(tmp_path: Path) -> None:
    process = started(tmp_path, "--for", "10m")
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "stopped by Ctrl-C" in out
    assert result_of(tmp_path / "out").stopped_by == "stopped by Ctrl-C"
    assert len(children.split()) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.split())


def test_a_gateway_that_runs_elsewhere_is_judged_through_its_search(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "connections.flap_limit=0") as program:
        there = ("--target", program.url, "--secret-file", str(program.folder / "key"))
        done = run("run", "steady", *QUICK, *there, "--search", program.operations, "--out", "out", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert result_of(tmp_path / "out").figures["lost"] == 0
        done = run("run", "steady", *QUICK, *there, "--out", "blind", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "?      lost == 0: – (not judged" in done.stdout


def test_what_is_wrong_is_said_before_the_first_connection(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x" * 40)
    with Program(tmp_path / "data") as program:
        target = ("--target", program.url)
        wrong = run("run", "steady", *target, "--secret-file", "secret", cwd=tmp_path)
        assert (wrong.returncode, "refuses the token" in wrong.stderr) == (2, True), wrong.stderr
        none = run("run", "steady", *target, cwd=tmp_path)
        assert (none.returncode, "--secret-file" in none.stderr) == (2, True)
        path = run(
            "run",
            "steady",
            "--target",
            program.url + "/not",
            "--secret-file",
            str(program.folder / "key"),
            cwd=tmp_path,
        )
        assert (path.returncode, "devices connect to /ws" in path.stderr) == (3, True), path.stderr
    gone = run("run", "steady", *target, "--secret-file", "secret", cwd=tmp_path)
    assert (gone.returncode, "cannot be reached" in gone.stderr) == (3, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "stedy"), "did you mean steady?"),
        (("run", "none.toml"), "cannot read none.toml"),
        (("run", "steady", "--set", "fleet.devics=3"), "did you mean fleet.devices?"),
        (("run", "steady", "--for", "soon"), "not a duration"),
        (("run", "steady", "--share", "1/2"), "--seed"),
        (("run", "steady", "--share", "3/2", "--seed", "1"), "write 3/8"),
        (("run", "steady", "--start-at", "yesterday"), "not a time"),
        (("run", "steady", "--start-at", "1000"), "past"),
        (("run", "steady", "--start-at", "2001-01-31t12:00:00z"), "past"),
        (("run", "steady", "--start-at", "9" * 400), "ahead"),
        (("run", "steady", "--gateways", "1000000000000"), "--gateways"),
        (("run", "steady", "--devices", "1000000000000"), "<= 10000000"),
        (("run", "replay", "/dev/zero"), "line 1 is longer"),
        (("run", "steady", "--gateways", "2", "--target", "ws://127.0.0.1:9/ws"), "give one"),
        (("run", "steady", "--target", "http://127.0.0.1:9/ws", "--secret-file", "secret"), "not a websocket address"),
        (("run", "steady", "--devices", "40000", "--gateways", "1"), "use at least --gateways"),
        (("run", "steady", "--set", "fleet.tracks=odd.gpx"), "odd.gpx: the encoding hex is not read"),
        (("run",), "Missing argument"),
    ],
)
def test_wrong_usage_is_exit_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "secret").write_text("x" * 40)
    (tmp_path / "odd.gpx").write_text('<?xml version="1.0" encoding="hex"?><gpx/>')
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["run", "list", "report", "schema"])
def test_every_command_has_help_with_an_example(tmp_path: Path, command: str) -> None:
    done = run(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example: heiwa-loadtest" in done.stdout


def test_list_and_schema(tmp_path: Path) -> None:
    names = [entry["name"] for entry in json.loads(run("list", "--json", cwd=tmp_path).stdout)]
    assert "node-loss" in names
    assert run("list", cwd=tmp_path).stdout.splitlines()[0].startswith("alb-blue-green ")
    assert json.loads(run("schema", cwd=tmp_path).stdout)["$defs"]["Scenario"]


def test_a_scenario_of_ones_own_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("thresholds = ['lost == 0']\n[fleet]\ndevices = 5\n[run]\nduration_s = 1\n")
    done = run("run", "mine.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result_of(tmp_path / "out").scenario == "mine"


# With fleets that only pretend


async def conduct(path: Path, *fake: str, scenario: str = "", **options: Any) -> RunResult:
    made = RunOptions(
        name="steady",
        scenario=parse(scenario, "my.toml", {"run.settle_s": 1}),
        out=path / "out",
        seed=7,
        fleet_command=(*FAKE, *fake),
        **options,
    )
    with (path / "view").open("w") as stream:
        outcome = await Conductor(made, PlainView(stream)).run(asyncio.Event(), asyncio.Event())
    return outcome.result


def died(result: RunResult) -> list[Happened]:
    return [event for event in result.events if event.what == "died"]


async def test_a_fleet_process_that_dies_is_told_with_what_it_held_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = "[fleet]\ndevices = 8\ndevices_each = 4\n[run]\nduration_s = 2\n"
    result = await conduct(tmp_path, "--die-after", "2", "--dies", ".1", scenario=text)
    [event] = died(result)
    assert event.name == "fleet-1.1"
    assert "exit code 7: out of luck; it held 4 connections" in event.text
    assert result.figures["processes_died"] == 1
    assert result.figures["connected"] == 4
    assert result.stopped_by == ""
    assert "the rest goes on" in (tmp_path / "view").read_text()


async def test_without_any_fleet_process_left_the_run_ends_with_a_report(tmp_path: Path) -> None:
    result = await conduct(tmp_path, "--die-after", "1", scenario="[run]\nduration_s = 600\n")
    assert result.stopped_by == "no fleet process is left"
    assert (tmp_path / "out" / folder.REPORT).exists()


async def test_what_was_acknowledged_and_is_nowhere_is_lost(tmp_path: Path) -> None:
    text = "thresholds = ['lost == 0']\n[run]\nduration_s = 0.5\n"
    result = await conduct(tmp_path, "--acked", "3", scenario=text)
    assert result.figures["lost"] == 3
    assert result.missed
    assert result.lost_ids[0].startswith("device-0 7.")
    # What is needed to find out why is kept.
    assert (tmp_path / "out/gateway-1/locations").is_dir()


async def test_a_fleet_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(HeiwaError, match="unrecognized arguments"):
        await conduct(tmp_path, "--nonsense")


async def test_a_gateway_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(HeiwaError, match=r"connections\.nonsense"):
        await conduct(tmp_path, scenario='[gateways.settings]\n"connections.nonsense" = 1')


def test_what_a_killed_fleet_process_had_acknowledged_is_judged(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(tmp_path, "--for", "6s", "--set", "fleet.devices_each=15", "--keep-data")
    name = "fleet-1.1"

    def told() -> int:
        samples = [line["sample"] for line in lines_of(out, "fleet")]
        return max((sample.get("acked", 0) for sample in samples if sample["process"] == name), default=0)

    eventually(lambda: told() >= 15, 30, "nothing was acknowledged")
    [pid] = {line["pid"] for line in lines_of(out, "process") if line["name"] == name}
    os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 99
    result = result_of(out)
    assert (result.figures["processes_died"], result.figures["lost"]) == (1, 0)
    [judged] = lines_of(out, "judged")
    assert judged["acked"] >= (result.figures["acked"] or 0) >= 15
    assert not any("not judged" in event.text for event in result.events)
    killed = (out / f"{name}.acked").read_text().splitlines()
    assert sum(line.count(",") + 1 for line in killed) >= 15


def test_a_second_ctrl_c_ends_at_once_with_a_report(tmp_path: Path) -> None:
    process = started(tmp_path, "--for", "10m")
    out = tmp_path / "out"
    pids = {line["pid"] for line in lines_of(out, "process") if line["role"] in ("fleet", "gateway")}
    assert len(pids) == 2
    # The fleet stands still, so an orderly end would take until it is given up on.
    [fleet] = {line["pid"] for line in lines_of(out, "process") if line["role"] == "fleet"}
    os.kill(fleet, signal.SIGSTOP)
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    eventually(lambda: '"name":"stop"' in (out / folder.SAMPLES).read_text(), 30, "it did not begin to stop")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=TIMEOUT_S)
    assert time.monotonic() - began_s < STOP_TIMEOUT_S / 2
    assert process.returncode == 1
    assert "stopped by Ctrl-C" in said
    assert result_of(out).stopped_by == "stopped by Ctrl-C"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
