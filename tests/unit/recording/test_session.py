"""What a recording is told of connections, and that it holds nothing of who and where."""

from __future__ import annotations

import json

from gateway.identity.identity import Identity
from gateway.recording.format import Connected, Disconnected, Line, Said, encode_lines
from gateway.recording.session import RecordedSession
from tests.support.bench import Bench, Recording, device
from tests.support.wire import CLOSE, TEXT, client_frame


class Memory:
    """A recording that is only remembered."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.ms = 0

    def put(self, line: Line) -> None:
        self.lines.append(line)

    def now_ms(self) -> int:
        return self.ms


class World:
    def __init__(self) -> None:
        self.memory = Memory()
        self.inner = Recording(echo=False)
        self.bench = Bench(session=RecordedSession(self.inner, self.memory))


def test_a_connection_from_its_beginning_to_its_end() -> None:
    world = World()
    _, transport = world.bench.open(device("dog-1", device_class="esp-idf"))
    world.memory.ms = 20
    message = json.dumps({"type": "locations", "events": [{}, {}]}).encode()
    transport.feed(client_frame(TEXT, message))
    world.memory.ms = 30
    transport.feed(client_frame(CLOSE, (1001).to_bytes(2, "big")))
    transport.finish()
    first, second, third = world.memory.lines
    name = getattr(first, "device", "")
    assert first == Connected(0, name, 1, "esp-idf")
    assert second == Said(20, name, 1, "locations", len(message), 2)
    assert third == Disconnected(30, name, 1, 1001)
    assert world.inner.events == ["opened", message, "closed"]


def test_a_break_has_no_code() -> None:
    world = World()
    _, transport = world.bench.open()
    transport.abort()
    transport.finish()
    assert world.memory.lines[-1] == Disconnected(0, getattr(world.memory.lines[0], "device", ""), 1, 1006)


def test_the_same_device_is_the_same_and_another_is_not() -> None:
    world = World()
    for identity in (device("a"), device("b"), device("a"), device("a", "other")):
        world.bench.open(identity)
    names = [line.device for line in world.memory.lines if isinstance(line, Connected)]
    assert names[0] == names[2]
    assert len(set(names)) == 3
    assert [line.connection for line in world.memory.lines if isinstance(line, Connected)] == [1, 2, 3, 4]


def test_two_recorders_name_a_device_differently() -> None:
    one, two = World(), World()
    for world in (one, two):
        world.bench.open(device("a"))
    assert one.memory.lines != two.memory.lines


def test_nothing_secret_is_written() -> None:
    world = World()
    secrets = ("s3cret-account", "s3cret-device", "s3cret-class", "s3cret-id", "s3cret-token", "35.681", "139.767")
    identity: Identity = device(secrets[1], secrets[0], device_class=secrets[2])
    _, transport = world.bench.open(identity)
    event = {"id": secrets[3], "time": 1, "lat": 35.681, "lon": 139.767}
    for message in (
        {"type": "location", **event},
        {"type": "locations", "events": [event]},
        {"type": "auth", "token": secrets[4]},
        {"type": secrets[4]},
        {"type": "ping", "id": secrets[3]},
    ):
        transport.feed(client_frame(TEXT, json.dumps(message).encode()))
    transport.abort()
    transport.finish()
    text = encode_lines(world.memory.lines).decode()
    assert len(world.memory.lines) == 7
    assert not [secret for secret in secrets if secret in text]
    types = [line.type for line in world.memory.lines if isinstance(line, Said)]
    assert types == ["location", "locations", "auth", "other", "ping"]
