"""`kill -9` of the gateway while OpenSearch and Firehose fail: what was acknowledged is found, and found once."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from loadtest.opensearch.node import Node
from tests.acceptance.test_crash import DEVICES, Device, seed
from tests.support.live_search import LiveSearch
from tests.support.opensearch import documents
from tests.support.program import Program

LOOSE = ("connections.flap_limit=0", "connections.messages_per_s=0", "locations.opensearch_timeout_s=2")
# How the index and the stream fail, and what devices may be told then.
FAULTS = {
    "nothing": ("", ""),
    "429": ("429", ""),
    "reset after sending": ("reset", ""),
    "write block": ("403", ""),
    "half an answer": ("cut", ""),
    "fewer items": ("fewer", ""),
    "no answer": ("late", ""),
    "503": ("503", ""),
    "both": ("429", "ServiceUnavailableException"),
    "both, no answer": ("late", "hang"),
}
QUICK = ("nothing", "reset after sending", "both")


def storm(live: LiveSearch, folder: Path, rounds: int, chance: random.Random, failing: tuple[str, str]) -> set[str]:
    """Kill it while everything fails; what devices were told is safe."""
    devices: list[Device] = []
    for _ in range(rounds):
        live.proxy.mode = live.firehose.fail_with = ""
        with Program(folder, *LOOSE, *live.settings()) as program:
            devices = [Device(f"dev{number}", program).carry_on(devices[number:][:1]) for number in range(DEVICES)]
            live.proxy.mode, live.firehose.fail_with = failing
            for device in devices:
                device.start()
            for device in devices:
                assert device.lively.wait(60), "no acks came"
            threading.Event().wait(chance.uniform(0, 0.5))
            program.kill()
            for device in devices:
                device.join(30)
    live.proxy.mode = live.firehose.fail_with = ""
    return {name for device in devices for name in device.acked}


def settle(live: LiveSearch, folder: Path) -> None:
    """The next start brings everything into the index."""
    with Program(folder, *LOOSE, *live.settings()) as program:
        deadline_s = time.monotonic() + 60
        while program.metrics()["heiwa_locations_spool_events"]:
            assert time.monotonic() < deadline_s, "the spool is not emptied"
            time.sleep(0.2)
        assert program.metrics()["heiwa_locations_unaccounted_events"] == 0
    live.flush()


@pytest.mark.parametrize(
    "fault", [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in FAULTS]
)
def test_acknowledged_events_survive_kills(
    opensearch: Node, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LiveSearch(opensearch.url, tmp_path) as live:
        for name, value in live.firehose.environment.items():
            monkeypatch.setenv(name, value)
        acked = storm(live, tmp_path / "data", 2, random.Random(seed()), FAULTS[fault])
        settle(live, tmp_path / "data")
        found = {str(one["id"]) for one in documents(opensearch.url, live.prefix).values()}
    assert acked, "nothing was acknowledged"
    assert acked <= found, f"{len(acked - found)} of {len(acked)} acknowledged events are lost"
