"""Who is chosen to leave: everybody once, idle ones first."""

from __future__ import annotations

import json
from itertools import islice
from random import Random

import pytest

from gateway.connections.ending import DRAIN, SHIFT
from gateway.connections.eviction import Elders, choose, evict
from tests.support.bench import Bench, device
from tests.support.wire import CONT, PING, TEXT, client_frame


def test_nobody_is_there() -> None:
    assert list(choose(Bench().hub)) == []


def test_idle_ones_come_first_and_each_once() -> None:
    bench = Bench()
    connections = [bench.open(device(f"d{number}"))[0] for number in range(50)]
    busy = set(connections[:20])
    for connection in busy:
        connection.expect(1)
    chosen = []
    for connection in choose(bench.hub):
        connection.leave(DRAIN)
        chosen.append(connection)
    assert len(set(chosen)) == len(chosen) == 50
    assert set(chosen[30:]) == busy


def test_busy_ones_can_be_left_alone() -> None:
    bench = Bench()
    connections = [bench.open(device(f"d{number}"))[0] for number in range(10)]
    connections[0].expect(1)
    chosen = []
    for connection in choose(bench.hub, busy_too=False):
        connection.leave(DRAIN)
        chosen.append(connection)
    assert set(chosen) == set(connections[1:])


@pytest.mark.parametrize(
    "part",
    [
        client_frame(TEXT, b'{"type":"event"}')[:-3],
        client_frame(TEXT, b'{"type":', final=False),
        client_frame(TEXT, b'{"type":', final=False) + client_frame(CONT, b'"event"}')[:-3],
        client_frame(TEXT, b'{"type":', final=False) + client_frame(PING),
    ],
)
def test_who_is_in_the_middle_of_a_message_goes_last(part: bytes) -> None:
    bench = Bench()
    connections = [bench.open(device(f"d{number}"))[0] for number in range(3)]
    connections[1].data_received(part)
    assert connections[1].busy
    chosen = []
    for connection in choose(bench.hub, busy_too=False):
        connection.leave(DRAIN)
        chosen.append(connection)
    assert set(chosen) == {connections[0], connections[2]}


def test_few_among_many_slots_are_found() -> None:
    bench = Bench()
    connections = [bench.open(device(f"d{number}"))[0] for number in range(500)]
    for connection in connections[:-1]:
        connection.leave(DRAIN)
    assert list(islice(choose(bench.hub), 1)) == [connections[-1]]


def test_the_order_is_drawn() -> None:
    bench = Bench()
    connections = [bench.open(device(f"d{number}"))[0] for number in range(100)]
    chosen = []
    for connection in choose(bench.hub):
        connection.leave(DRAIN)
        chosen.append(connection)
    assert chosen != connections


@pytest.mark.parametrize(("spread_s", "most_later_ms"), [(0, 0), (2, 2000)])
def test_those_of_one_tick_come_back_evenly_until_the_next(spread_s: float, most_later_ms: int) -> None:
    bench = Bench()
    pairs = [bench.open(device(f"d{number}")) for number in range(4)]
    assert evict(bench.hub, DRAIN, 4, tick_s=0.1, spread_s=spread_s, busy_too=True) == 4
    bench.turns.end()
    written = (bytes(transport.written) for _, transport in pairs)
    told = sorted(json.loads(text[2:].split(b"}")[0] + b"}")["reconnect_after_ms"] for text in written)
    if spread_s:
        assert max(told) > 100
    assert all(at <= one <= at + most_later_ms for one, at in zip(told, (0, 25, 50, 75), strict=True))


def test_elders_whose_age_is_nearly_reached_go_first() -> None:
    bench, chance = Bench("connections.max_age_h=1-2", "connections.heartbeat_s=3600"), Random(1)
    connections = [bench.open(device(f"d{number}"))[0] for number in range(100)]
    hub, table = bench.hub, bench.hub.table
    for connection in connections:
        table.id_high[connection.slot], table.id_low[connection.slot] = hub.time_ms << 16, chance.getrandbits(62)
        hub.plan_end(connection.slot)
    by_age = sorted(connections, key=lambda one: table.planned_s[one.slot])
    # One's token ends before its age.
    table.planned_s[by_age[50].slot] = hub.now_s + 1
    elders = Elders(hub.time_ms + 1)
    for number, connection in enumerate(by_age[:3]):
        bench.clock.advance(table.planned_s[connection.slot] - 29 - hub.now_s)
        hub.catch_up()
        busy = number == 1
        if busy:
            connection.expect(1)
        assert evict(hub, SHIFT, 1, tick_s=0.1, spread_s=0, busy_too=False, first=elders) == 1
        assert connection.stays is busy
    assert elders.aged == 2
