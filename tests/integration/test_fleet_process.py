"""A fleet process as the conductor sees it: when it is told to stop, and after."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.bench.process import LoadProcess
from loadtest.fleet.commands import SendCommand, TargetsCommand
from loadtest.fleet.options import FleetOptions
from loadtest.processes.fleets import FleetProcess
from loadtest.processes.slices import FleetSlice

# It reads to the end of its input, as a fleet does, and ends then.
OPTIONS = FleetOptions(urls=["ws://127.0.0.1:1/ws"], devices=1)
READER = ("sh", "-c", "cat > /dev/null")
SINCE_THE_FIFTH_ASYNCIO_WARNS = 10


@pytest.fixture
async def fleet(tmp_path: Path) -> FleetProcess:
    made = FleetProcess(FleetSlice("fleet-1.1", 0, 1, [], 1), tmp_path / "fleet.log")
    await made.start(OPTIONS, lambda _: None, lambda *_: None, READER)
    return made


async def test_a_fleet_that_was_told_to_stop_gets_no_more_commands(
    fleet: FleetProcess, caplog: pytest.LogCaptureFixture
) -> None:
    await fleet.tell(SendCommand())
    stopping = asyncio.create_task(fleet.stop())
    await asyncio.sleep(0)
    assert fleet.stopping
    for _ in range(SINCE_THE_FIFTH_ASYNCIO_WARNS):
        await fleet.tell(TargetsCommand())
    await stopping
    for _ in range(SINCE_THE_FIFTH_ASYNCIO_WARNS):
        await fleet.tell(TargetsCommand())
    assert not fleet.died
    assert not caplog.records


async def test_a_fleet_that_had_to_be_killed_died(fleet: FleetProcess) -> None:
    await fleet.kill()
    assert fleet.died
    assert fleet.code == -signal.SIGKILL
    await fleet.tell(SendCommand())


async def test_a_secret_is_neither_in_arguments_nor_in_the_environment(tmp_path: Path) -> None:
    fleet = FleetProcess(FleetSlice("fleet-1.1", 0, 1, [], 1), tmp_path / "fleet.log")
    secret = "s" * 40
    await fleet.start(msgspec.structs.replace(OPTIONS, secret=secret), lambda _: None, lambda *_: None)
    told = [await asyncio.to_thread(Path(f"/proc/{fleet.pid}/{name}").read_text) for name in ("cmdline", "environ")]
    assert "loadtest.fleet.process" in told[0]
    assert not any(secret in text for text in told)
    await fleet.stop()
    assert "refuses" in fleet.why()


async def test_a_line_that_is_too_long_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    heard: list[Any] = []
    fleet = FleetProcess(FleetSlice("fleet-1.1", 0, 1, [], 1), tmp_path / "fleet.log")
    script = """head -c 3000000 /dev/zero; echo; echo '{"event":"ready"}'; cat > /dev/null"""
    await fleet.start(OPTIONS, lambda _: None, lambda _, event: heard.append(event["event"]), ("sh", "-c", script))
    async with asyncio.timeout(20):
        await fleet.stop()
    assert heard[0] == "unreadable"
    assert heard[-1] == "ready"
    assert fleet.ended.is_set()


def test_a_load_of_the_benchmarks_is_told_its_secret_in_its_input() -> None:
    load = LoadProcess("loadtest.bench.client", port=1, secret="s" * 40)
    try:
        assert "s" * 40 not in Path(f"/proc/{load._process.pid}/cmdline").read_text()
        assert load.do("idle", seconds=0)["open"] == 0
    finally:
        load.stop()


async def test_a_fleet_that_nobody_listens_to_ends() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.fleet.process"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        options = FleetOptions(urls=OPTIONS.urls, devices=1, secret="x" * 32, probe=False)
        process.stdin.write(msgspec.json.encode(options) + b"\n")
        async with asyncio.timeout(30):
            assert b"ready" in await process.stdout.readline()
            # As when the conductor is killed: both pipes end.
            process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
            process.stdin.close()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
