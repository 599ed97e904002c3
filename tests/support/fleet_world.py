"""The devices of a fleet without sockets or a loop: a server that does anything, and a clock that only tests move."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
from websockets.frames import Frame, Opcode

from loadtest.fleet.connector import OnFailed
from loadtest.fleet.device import ACCEPT, DeviceConnection
from loadtest.fleet.events import EventFactory
from loadtest.fleet.ledger import Ledger
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.population import Population
from loadtest.fleet.sender import EventSender
from loadtest.fleet.tally import FleetTally

DEVICES = 6
EVENTS = EventFactory("r.", 1)
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n"


def frame(message: dict[str, Any] | bytes, first: int = 0x81) -> bytes:
    """A frame of the server: a text message, or with `first` another one."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return Frame(Opcode(first & 15), payload, bool(first & 0x80)).serialize(mask=False)


WELCOME = frame(
    {"type": "welcome", "connection": "c", "time": 1, "heartbeat_s": 45, "max_message_bytes": 9600, "max_events": 500}
)


class FakeWire:
    """A transport and the server behind it, which keeps what it was sent until it answers."""

    def __init__(self, server: FakeServer, device: DeviceConnection) -> None:
        self.server, self.device = server, device
        self.open = True
        self.unanswered: list[str] = []

    def write(self, data: bytes) -> None:
        while data and self.open:
            length = data[1] & 0x7F
            start = 2
            if length == 126:
                length, start = int.from_bytes(data[2:4]), 4
            elif length == 127:
                length, start = int.from_bytes(data[2:10]), 10
            payload, first = data[start + 4 : start + 4 + length], data[0]
            data = data[start + 4 + length :]
            if first == 0x88:
                self.server.closing.append(self)
            elif first == 0x81:
                message = msgspec.json.decode(payload)
                if message["type"] not in ("location", "locations"):
                    self.server.others.append(message)
                    continue
                for event in message.get("events", [message]):
                    event.pop("type", None)
                    key = (self.device.slot, event["id"])
                    assert self.server.seen.setdefault(key, event) == event, "the same id with another content"
                    self.unanswered.append(event["id"])

    def say(self, data: bytes) -> None:
        if self.open:
            self.device.data_received(data)

    def abort(self) -> None:
        self.end()

    close = abort

    def end(self) -> None:
        if self.open:
            self.open = False
            self.server.wires.remove(self)
            self.server.lost.append(self.device)

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def get_extra_info(self, _: str) -> None:
        return None


class FakeServer:
    """Stands in for the connector: answers each connect, and then does what it is told."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.kind = False
        self.slow = False
        self.unanswered: list[FakeWire] = []
        self.targets: list[Any] = []
        self.wires: list[FakeWire] = []
        self.closing: list[FakeWire] = []
        self.lost: list[DeviceConnection] = []
        self.seen: dict[tuple[int, str], dict[str, Any]] = {}
        self.acked: set[tuple[int, str]] = set()
        self.others: list[dict[str, Any]] = []
        self.refused: set[tuple[int, str]] = set()

    def target_of(self, slot: int) -> int:
        return 0

    def left(self, index: int) -> None:
        assert index == 0

    def request(self, slot: int, index: int) -> bytes:
        return b""

    def cancel(self, slot: int) -> bool:
        return False

    def open(self, device: DeviceConnection, index: int, on_failed: OnFailed) -> None:
        what = 9 if self.kind else self.chance.randrange(10)
        if what == 0:
            on_failed(device, OSError("refused"))
            return
        wire = FakeWire(self, device)
        self.wires.append(wire)
        device.transport = wire  # type: ignore[assignment]
        if self.slow:
            self.unanswered.append(wire)
            return
        wire.say(REFUSED if what == 1 else ACCEPTED)
        if what > 2:
            wire.say(WELCOME)
        elif what == 2:
            wire.end()

    def answer(self) -> None:
        """Accept the connects that wait."""
        while self.unanswered:
            self.unanswered.pop().say(ACCEPTED + WELCOME)

    def settle(self) -> None:
        """Ends that the loop would report a little later."""
        for wire in self.closing:
            wire.say(frame(b"\x03\xe8", 0x88))
            wire.end()
        self.closing.clear()
        while self.lost:
            self.lost.pop().connection_lost(None)

    def act(self, what: int) -> None:
        """Do one thing to one connection."""
        if not self.wires:
            return
        wire = self.chance.choice(self.wires)
        if what <= 4 and wire.unanswered:
            count = self.chance.randint(1, len(wire.unanswered))
            ids, wire.unanswered = wire.unanswered[:count], wire.unanswered[count:]
            keys = {(wire.device.slot, name) for name in ids}
            if what <= 2:
                self.acked |= keys - self.refused
                # An ack may be lost with its connection.
                wire.say(frame({"type": "ack", "ids": ids, "durability": "indexed"}))
            elif what == 3:
                wire.say(frame({"type": "nack", "ids": ids, "code": "busy", "message": "", "retry_after_ms": 700}))
            elif not keys & self.acked:
                self.refused |= keys
                wire.say(frame({"type": "nack", "ids": ids, "code": "invalid", "message": ""}))
        elif what == 5:
            wire.end()
        elif what == 6:
            wire.say(frame({"type": "goaway", "reason": "drain", "reconnect_after_ms": 400}))
        elif what == 7:
            wire.say(frame(b"\x03\xf4", 0x88))
            wire.end()
        else:
            wire.say(frame(b"", 0x89))


class World:
    """A population of DEVICES devices with a server, on a clock that only tests move."""

    def __init__(self, chance: Random, **options: Any) -> None:
        self.now_s = 1000.0
        self.server = FakeServer(chance)
        given = {"urls": ["ws://x/ws"], "devices": DEVICES, "secret": "s" * 32, "run": "r.", "store": 10_000}
        self.options = msgspec.convert({**given, **options}, FleetOptions)
        tally = FleetTally()

        def sender(population: Population) -> EventSender:
            return EventSender(
                self.options.events.of_events(DEVICES),
                Ledger(DEVICES, self.options.store),
                EVENTS,
                tally,
                population.wheel,
                population.devices,
                population.faults,
                first=0,
                window=self.options.max_in_flight,
                wall_s=1e9,
                random=chance,
                acked=lambda _, __: None,
                report=lambda slot, numbers: None,
            )

        self.population = Population(
            self.options,
            self.server,  # type: ignore[arg-type]
            sender,
            tally,
            lambda: self.now_s,
            lambda *_, **__: None,
        )
        self.ledger = self.population.sender.ledger
        self.tally = tally

    def pass_s(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 0.1)
            self.population.turn()
            self.server.settle()
            self.check()

    def check(self) -> None:
        ledger, population = self.ledger, self.population
        settled = ledger.acked + ledger.nacked + ledger.lost
        assert ledger.sent == settled + ledger.in_flight + ledger.waiting
        assert sum(population.counts) == DEVICES
        for slot in range(DEVICES):
            if population.devices[slot] is None:
                assert ledger.flying[slot] == 0
