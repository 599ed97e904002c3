"""`kill -9` of the gateway while OpenSearch and Firehose fail: what was acknowledged is found, and found once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.opensearch.node import Node
from tests.acceptance.test_crash import DEVICES, Device, seed
from tests.support.live_search import LiveSearch
from tests.support.opensearch import documents
from tests.support.program import Program
from tests.support.search_faults import PASS, ROWS, Fault

LOOSE = ("connections.flap_limit=0", "connections.messages_per_s=0", "locations.opensearch_timeout_s=2")


def both(mode: str, fail_with: str) -> Callable[[Any], None]:
    """OpenSearch and Firehose."""

    def change(live: LiveSearch) -> None:
        live.proxy.mode, live.firehose.fail_with = mode, fail_with

    return change


# The whole matrix, and what a stream that fails with it adds.
FAULTS = [
    Fault("nothing", PASS, PASS, frozenset()),
    *ROWS,
    Fault("both", both("429", "ServiceUnavailableException"), both("", ""), frozenset()),
    Fault("both, no answer", both("late", "hang"), both("", ""), frozenset()),
]
QUICK = ("nothing", "reset after sending", "both")


def storm(live: LiveSearch, folder: Path, rounds: int, chance: random.Random, fault: Fault) -> set[str]:
    """Kill it while everything fails; what devices were told is safe."""
    devices: list[Device] = []
    for _ in range(rounds):
        with Program(folder, *LOOSE, *live.settings()) as program:
            devices = [Device(f"dev{number}", program).carry_on(devices[number:][:1]) for number in range(DEVICES)]
            if not fault.warm:
                fault.breaks(live)
            for device in devices:
                device.start()
            lively(devices)
            if fault.warm:
                fault.breaks(live)
                lively(devices)
            threading.Event().wait(chance.uniform(0, 0.5))
            program.kill()
            for device in devices:
                device.join(30)
        fault.mends(live)
    return {name for device in devices for name in device.acked}


def lively(devices: Sequence[Device]) -> None:
    """Until each of them has an ack for something it sent from now on."""
    for _ in range(2):
        for device in devices:
            device.lively.clear()
        for device in devices:
            assert device.lively.wait(60), "no acks came"


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
    "fault", [pytest.param(row, id=row.name, marks=[] if row.name in QUICK else [pytest.mark.soak]) for row in FAULTS]
)
def test_acknowledged_events_survive_kills(
    opensearch: Node, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LiveSearch(opensearch.url, tmp_path) as live:
        for name, value in live.firehose.environment.items():
            monkeypatch.setenv(name, value)
        acked = storm(live, tmp_path / "data", 2, random.Random(seed()), fault)
        settle(live, tmp_path / "data")
        # Ids are unique over devices; `documents` sees to it that each is there once.
        found = {str(one["id"]) for one in documents(opensearch.url, live.prefix).values()}
    assert acked, "nothing was acknowledged"
    assert acked <= found, f"{len(acked - found)} of {len(acked)} acknowledged events are lost"
