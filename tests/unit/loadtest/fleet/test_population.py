"""All devices of a fleet against a server that does anything at any time: nothing is lost, nothing is made twice."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.fleet.connector import OnFailed
from loadtest.fleet.device import ACCEPT, DeviceConnection
from loadtest.fleet.events import EventFactory
from loadtest.fleet.histogram import Latencies
from loadtest.fleet.ledger import Ledger
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.phases import DONE, GIVEN_UP, UP
from loadtest.fleet.population import Population
from loadtest.fleet.sender import EventSender
from loadtest.fleet.tally import FleetTally

DEVICES = 6
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n"


def frame(message: dict[str, Any] | bytes, first: int = 0x81) -> bytes:
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    length = len(payload)
    return bytes((first, length)) + payload if length < 126 else bytes((first, 126)) + length.to_bytes(2) + payload


WELCOME = frame(
    {"type": "welcome", "connection": "c", "time": 1, "heartbeat_s": 45, "max_message_bytes": 9600, "max_events": 500}
)


class Wire:
    """A transport and the server behind it. It keeps what it was sent until it answers."""

    def __init__(self, server: Server, device: DeviceConnection) -> None:
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


class Server:
    """In the place of the connector: it answers each connect, and then does as it is told."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.kind = False
        self.slow = False
        self.unanswered: list[Wire] = []
        self.targets: list[Any] = []
        self.wires: list[Wire] = []
        self.closing: list[Wire] = []
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
        wire = Wire(self, device)
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
        """Let the devices of a slow server in."""
        while self.unanswered:
            self.unanswered.pop().say(ACCEPTED + WELCOME)

    def settle(self) -> None:
        """Ends that the loop would tell a little later."""
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
    def __init__(self, chance: Random, **options: Any) -> None:
        self.now_s = 1000.0
        self.server = Server(chance)
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


EVENTS = EventFactory("r.", 1)
CLIENT_MODELS = {"patient": 0.4, "arduino": 0.2, "browser": 0.2, "naive": 0.2}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.0, 0.1, 0.7, 3.0])), max_size=80),
    st.integers(),
    st.sampled_from(["periodic", "poisson"]),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([0.0, 5.0]),
)
def test_nothing_is_lost_whatever_happens(
    steps: list[tuple[int, float]], seed: int, kind: str, window: int, churn_s: float
) -> None:
    chance = Random(seed)
    world = World(
        chance,
        client_models=CLIENT_MODELS,
        connect={"rate_per_s": 3},
        events={"kind": kind, "period_s": 0.5},
        max_in_flight=window,
        churn_period_s=churn_s,
    )
    server, population, ledger = world.server, world.population, world.ledger
    population.connect(world.now_s)
    population.sender.begin(world.now_s, world.now_s)
    world.pass_s(1)
    for what, wait_s in steps:
        server.act(what)
        server.settle()
        world.check()
        world.pass_s(wait_s)
    population.sender.pause()
    population.finish()
    server.kind = True
    for _ in range(400):
        world.pass_s(0.5)
        for wire in list(server.wires):
            if wire.unanswered:
                ids, wire.unanswered = wire.unanswered, []
                server.acked |= {(wire.device.slot, name) for name in ids}
                wire.say(frame({"type": "ack", "ids": ids, "durability": "indexed"}))
        if not ledger.in_flight and not ledger.waiting:
            break
    assert (ledger.in_flight, ledger.waiting, ledger.lost) == (0, 0, 0)
    assert ledger.acked + ledger.nacked == ledger.sent == len(server.seen)
    # What the device believes acked was acked.
    for slot in range(DEVICES):
        for part in filter(None, ledger.acked_ranges(slot).split(",")):
            first, _, last = part.partition("-")
            assert {(slot, f"r.{n}") for n in range(int(first), int(last or first) + 1)} <= server.acked
    population.close()
    world.pass_s(20)
    assert population.counts[DONE] == DEVICES


def test_events_come_at_their_intended_moments() -> None:
    world = World(Random(1), events={"period_s": 10})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.pass_s(1)
    assert world.population.counts[UP] == DEVICES
    world.population.sender.begin(world.now_s, world.now_s)
    began_ms = round((world.now_s + 1e9) * 1000)
    world.pass_s(29.9)
    for slot in range(DEVICES):
        times = [event["time"] for (own, _), event in world.server.seen.items() if own == slot]
        assert len(times) == 3
        assert times[1] - times[0] == times[2] - times[1] == 10_000
        assert began_ms <= times[0] < began_ms + 10_000


def test_a_stall_makes_nobody_send_less() -> None:
    world = World(Random(1), events={"period_s": 1})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.pass_s(1)
    world.population.sender.begin(world.now_s, world.now_s)
    world.pass_s(1)
    world.now_s += 20
    world.pass_s(0.1)
    assert world.ledger.sent >= 21 * DEVICES


def test_a_server_that_is_never_heard_is_left() -> None:
    world = World(Random(1), events={"period_s": 0})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.pass_s(112)
    assert world.tally.connects == DEVICES
    world.pass_s(10)
    assert world.tally.connects == 2 * DEVICES
    assert world.tally.unexpected == DEVICES


def test_a_half_open_device_falls_silent_once() -> None:
    world = World(Random(1), events={"period_s": 1}, half_open=1.0, half_open_s=5)
    world.server.kind = True
    world.population.connect(world.now_s)
    world.population.sender.begin(world.now_s, world.now_s)
    world.pass_s(75)
    assert world.tally.connects == 2 * DEVICES
    assert (world.tally.unexpected, world.tally.closed) == (0, {1006: DEVICES})
    assert world.ledger.lost == 0


def stalled(world: World, for_s: float) -> None:
    """All devices are connected and send, and then nothing passes for a while."""
    world.server.kind = True
    world.population.connect(world.now_s)
    world.population.sender.begin(world.now_s, world.now_s)
    world.pass_s(12)
    world.population.cut(world.population.connected(), "stall", for_s=for_s)


def test_a_stalled_device_goes_on_with_the_same_connection() -> None:
    world = World(Random(1), events={"period_s": 1})
    stalled(world, 20)
    sent = len(world.server.seen)
    world.pass_s(19)
    assert len(world.server.seen) == sent
    world.pass_s(2)
    assert len(world.server.seen) > sent + 19 * DEVICES
    assert (world.tally.connects, world.tally.closed) == (DEVICES, {})


def test_a_stalled_device_finds_out_that_its_connection_is_gone() -> None:
    world = World(Random(1), events={"period_s": 1}, client_models={"esp-idf": 1.0})
    stalled(world, 20)
    world.pass_s(10)
    for wire in list(world.server.wires):
        wire.end()
    world.pass_s(1)
    assert world.tally.closed == {1006: DEVICES}
    world.pass_s(11)
    assert world.tally.connects == 2 * DEVICES
    assert world.population.counts[GIVEN_UP] == 0


def connects_of(world: World) -> Latencies:
    found = Latencies()
    found.add(world.tally.connect.take())
    return found


def test_a_connect_counts_from_its_intended_moment() -> None:
    world = World(Random(1), connect={"rate_per_s": 10})
    world.server.kind = True
    world.population.connect(world.now_s)
    world.now_s += 20
    world.pass_s(1)
    found = connects_of(world)
    assert found.count == DEVICES
    least, most = found.percentiles_ms(1, 100)
    assert 19_000 < (least or 0) < (most or 0) <= 20_200


def test_a_connect_that_waits_for_its_turn_counts_from_its_intended_moment() -> None:
    world = World(Random(1), connect={"kind": "at_once"}, connects_at_a_time=1)
    world.server.kind = True
    world.server.slow = True
    world.population.connect(world.now_s)
    for _ in range(DEVICES):
        world.pass_s(1)
        world.server.answer()
    world.pass_s(0.1)
    found = connects_of(world)
    assert found.count == DEVICES
    assert found.percentiles_ms(100)[0] == pytest.approx(1000 * DEVICES, rel=0.1)


def test_what_faulty_devices_wait_for_is_counted_apart() -> None:
    world = World(
        Random(1),
        events={"period_s": 1},
        half_open=0.5,
        half_open_s=5,
        half_open_after_min_s=1,
        half_open_after_max_s=2,
    )
    world.server.kind = True
    world.population.connect(world.now_s)
    world.population.sender.begin(world.now_s, world.now_s)
    for _ in range(100):
        world.pass_s(0.2)
        for wire in list(world.server.wires):
            ids, wire.unanswered = wire.unanswered, []
            if ids:
                wire.say(frame({"type": "ack", "ids": ids, "durability": "indexed"}))
    healthy, faulty = Latencies(), Latencies()
    healthy.add(world.tally.ack.take())
    faulty.add(world.tally.faulty_ack.take())
    assert healthy.count + faulty.count == world.ledger.acked
    assert (healthy.percentiles_ms(100)[0] or 0) < 500
    # It fell silent and woke up: what it wanted to send meanwhile came late, and is its own.
    assert (faulty.percentiles_ms(100)[0] or 0) > 4000
