"""Events are what the gateway takes, the same whenever they are built, and go where their device goes."""

import json
import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.device.gpx import Fix
from gateway.locations.event import check
from gateway.protocol.messages import Nack, decode_event, decode_locations
from loadtest.fleet.events import EventFactory, size_of_each

NOW_MS = 1_790_000_000_000
TRACK = [Fix(46.0 + step / 1000, 14.5, None, None) for step in range(10)]
WALKS = EventFactory("r.", 7)
TRACKS = EventFactory("run.", 1, [TRACK])
indices = st.integers(0, 2_000_000)
numbers = st.integers(1, 2**32 - 1)


@given(indices, numbers, st.sampled_from([WALKS, TRACKS]))
def test_the_gateway_takes_every_event(index: int, number: int, events: EventFactory) -> None:
    payload = events.location(index, number, NOW_MS)
    event = decode_event(payload)
    assert check(event, NOW_MS) is None
    assert events.number_of(event.id) == number
    assert json.loads(payload)["type"] == "location"


@given(indices, st.lists(numbers, min_size=1, max_size=500))
def test_stored_events_are_the_same_events(index: int, given_numbers: list[int]) -> None:
    events = WALKS
    payload = events.locations(index, [(number, NOW_MS + number % 1000, 0) for number in given_numbers])
    good, bad = decode_locations(payload, NOW_MS)
    assert not bad
    assert good == [decode_event(events.location(index, n, NOW_MS + n % 1000)) for n in given_numbers]


@given(indices, st.integers(1, 500), st.integers(0, 200_000))
def test_a_message_is_as_long_as_it_is_to_be(index: int, count: int, size: int) -> None:
    events, each = WALKS, size_of_each(size, count)
    bad: list[Nack] = []
    if count == 1:
        payload = events.location(index, 1, NOW_MS, each)
        found = [decode_event(payload)]
    else:
        payload = events.locations(index, [(number, NOW_MS, each) for number in range(1, count + 1)])
        found, bad = decode_locations(payload, NOW_MS)
    assert not bad
    assert len(found) == count
    assert all(check(event, NOW_MS) is None for event in found)
    # What an event needs, and what its padding takes at least and at most.
    if 150 * count + 40 <= size <= 1000 * count:
        assert size - count <= len(payload) <= size
    assert len(payload) <= max(size, 150 * count + 40)


@given(indices, numbers)
def test_a_walk_never_jumps(index: int, number: int) -> None:
    events = WALKS
    (lat, lon), (next_lat, next_lon) = events.position(index, number), events.position(index, number + 1)
    east = (next_lon - lon + 180) % 360 - 180
    metres = math.hypot((next_lat - lat), east * math.cos(math.radians(lat))) * 111_195
    assert metres < 6


def test_a_track_is_walked_there_and_back() -> None:
    events = EventFactory("r.", 1, [TRACK])
    lats = [round((events.position(3, number)[0] - 46) * 1000) for number in range(40)]
    assert set(lats) == set(range(10))
    assert all(abs(after - before) == 1 for before, after in pairwise(lats))


def test_a_track_of_one_point_stays() -> None:
    events = EventFactory("r.", 1, [TRACK[:1]])
    assert {events.position(index, number) for index in range(3) for number in range(3)} == {(46.0, 14.5)}


def test_devices_are_at_different_places() -> None:
    events = EventFactory("r.", 1)
    assert len({events.position(index, 1) for index in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["other.1", "r.", "r.x", "r.-1", "r.²", "", "R.1"])
def test_ids_of_others_have_no_number(name: str) -> None:
    assert EventFactory("r.", 1).number_of(name) is None


def test_messages_are_compact() -> None:
    largest = EventFactory("x" * 40, 1).locations(1_999_999, [(2**32 - 1, NOW_MS, 0)])
    assert len(msgspec.json.encode(msgspec.json.decode(largest))) <= 240
