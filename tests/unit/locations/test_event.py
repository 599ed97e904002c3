from sys import getsizeof

import msgspec
import pytest

from gateway.locations.batch import ATTRIBUTE_BYTES, EVENT_BYTES, DeviceEvents, count, items, size_bytes
from gateway.locations.event import MAX_ATTRIBUTES_BYTES, NEWEST_MS, OLDEST_MS, LocationEvent, Scalar, check
from tests.support.locations import NOON_MS, event


@pytest.mark.parametrize("time", [NOON_MS, NOON_MS - OLDEST_MS, NOON_MS + NEWEST_MS])
def test_a_normal_event_is_accepted(time: int) -> None:
    assert check(event("a~ !", time), NOON_MS) is None


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (event(time=NOON_MS - OLDEST_MS - 1), "time is more than 30 days ago - at `$.time`"),
        (event(time=NOON_MS + NEWEST_MS + 1), "time is more than 1 day ahead - at `$.time`"),
        (event("é"), "id is not 1 to 64 printable ASCII characters - at `$.id`"),
        (event("a\n"), "id is not 1 to 64 printable ASCII characters - at `$.id`"),
        (event("x" * 65), "id is not 1 to 64 printable ASCII characters - at `$.id`"),
        (event(""), "id is not 1 to 64 printable ASCII characters - at `$.id`"),
        (event(attributes={"k": "x" * 1024}), "attributes take more than 1024 bytes - at `$.attributes`"),
    ],
)
def test_the_problem_names_the_field(bad: LocationEvent, problem: str) -> None:
    assert check(bad, NOON_MS) == problem


def test_attributes_of_exactly_the_limit_are_accepted() -> None:
    fits = event(attributes={"k": "x" * (MAX_ATTRIBUTES_BYTES - len('{"k":""}'))})
    assert len(msgspec.json.encode(fits.attributes)) == MAX_ATTRIBUTES_BYTES
    assert check(fits, NOON_MS) is None
    one_more = event(attributes={"k": "x" * (MAX_ATTRIBUTES_BYTES + 1 - len('{"k":""}'))})
    assert check(one_more, NOON_MS) == "attributes take more than 1024 bytes - at `$.attributes`"


def test_nested_attributes_are_refused_while_decoding() -> None:
    raw = b'{"id":"a","time":1,"lat":0,"lon":0,"attributes":{"a":{"b":1}}}'
    with pytest.raises(msgspec.ValidationError, match="attributes"):
        msgspec.json.decode(raw, type=LocationEvent)


def test_the_size_is_an_upper_bound() -> None:
    huge = LocationEvent(
        "x" * 64, -(10**15), -89.123456789012345, -179.12345678901234, 1e-300 / 3, -1e8 / 3, 1 / 3, 2 / 3
    )
    assert len(msgspec.json.encode(huge)) <= EVENT_BYTES
    attributes = {"k": "x" * 1000}
    counted = 2 * EVENT_BYTES + MAX_ATTRIBUTES_BYTES + ATTRIBUTE_BYTES
    assert size_bytes([huge, event(attributes=attributes)]) == counted


@pytest.mark.parametrize(
    "attributes",
    [
        {f"a{n}": n + 1000 for n in range(90)},
        {f"a{n}": n / 3 for n in range(40)},
        {f"{n}": f"é{n}" for n in range(80)},
        {"n" * 500: "x" * 500},
    ],
)
def test_the_size_is_one_of_the_objects_too(attributes: dict[str, Scalar]) -> None:
    assert len(msgspec.json.encode(attributes)) <= MAX_ATTRIBUTES_BYTES
    decoded = msgspec.json.decode(msgspec.json.encode(event("x" * 64, attributes=attributes)), type=LocationEvent)
    objects = [decoded, decoded.id, decoded.time, decoded.lat, decoded.lon, decoded.attributes]
    objects += [part for pair in (decoded.attributes or {}).items() for part in pair]
    assert 0.3 < sum(map(getsizeof, objects)) / size_bytes([decoded]) < 1.3


def test_groups_are_counted_and_flattened_in_order() -> None:
    groups = [DeviceEvents("a", "d", [event("1"), event("2")]), DeviceEvents("a", "e", [event("3")])]
    assert count(groups) == 3
    assert [(group.device, one.id) for group, one in items(groups)] == [("d", "1"), ("d", "2"), ("e", "3")]
