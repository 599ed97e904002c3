"""`kill -9` at random moments under load: everything acknowledged is found, and found once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.support.program import Program, location

DEVICES = 4


class Device(threading.Thread):
    """Sends lots of ten until its connection breaks; what was not acknowledged is sent again the next time."""

    def __init__(self, name: str, program: Program) -> None:
        super().__init__(name=name)
        self.program = program
        self.acked: set[str] = set()
        self.pending: list[dict[str, object]] = []
        self.number = 0
        self.lively = threading.Event()

    def carry_on(self, before: list[Device]) -> Device:
        """Take over what the same device knew before its connection broke."""
        for device in before:
            self.acked, self.pending, self.number = device.acked, device.pending, device.number
        return self

    def run(self) -> None:
        with contextlib.suppress(ConnectionClosed), self.program.connect(self.name) as connection:
            while True:
                while len(self.pending) < 40:
                    self.number += 1
                    self.pending.append(location(f"{self.name}-{self.number}"))
                connection.send(json.dumps({"type": "locations", "events": self.pending[:10]}))
                self._take_acks(connection)

    def _take_acks(self, connection: ClientConnection) -> None:
        wanted = {str(event["id"]) for event in self.pending[:10]}
        while wanted:
            message = json.loads(connection.recv(30))
            if message["type"] == "ack":
                ids = set(message["ids"])
                self.acked |= ids
                wanted -= ids
        self.pending = self.pending[10:]
        self.lively.set()


def storm(folder: Path, rounds: int, chance: random.Random) -> None:
    devices: list[Device] = []
    for _ in range(rounds):
        with Program(folder, "connections.flap_limit=0", "connections.messages_per_s=0") as program:
            devices = [Device(f"dev{number}", program).carry_on(devices[number:][:1]) for number in range(DEVICES)]
            for device in devices:
                device.start()
            for device in devices:
                assert device.lively.wait(30), "no acks came"
            # The moment of the kill, wherever the program is then.
            threading.Event().wait(chance.uniform(0, 0.3))
            program.kill()
            for device in devices:
                device.join(30)
    with Program(folder) as program:
        found = Counter((event["device"], event["id"]) for event in program.found())
        assert program.metrics()["heiwa_locations_unaccounted_events"] == 0
    acked = {(device.name, name) for device in devices for name in device.acked}
    assert acked, "nothing was acknowledged"
    assert acked <= set(found), f"{len(acked - set(found))} acknowledged events are lost"
    assert max(found.values()) == 1


def seed() -> int:
    value = int(os.environ.get("HEIWA_TEST_SEED", random.randrange(1 << 32)))
    print("seed", value)
    return value


def test_acknowledged_events_survive_kills(tmp_path: Path) -> None:
    storm(tmp_path / "data", 4, random.Random(seed()))


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_acknowledged_events_survive_fifty_kills(tmp_path: Path) -> None:
    storm(tmp_path / "data", 50, random.Random(seed()))
