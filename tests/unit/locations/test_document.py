"""Documents: identities that are never shared, and bytes that say what was sent."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from gateway.locations.batch import DeviceEvents
from gateway.locations.document import (
    MAX_ID_BYTES,
    bulk_lines,
    device_id,
    document_id,
    encode_lines,
    index_of,
    latest_lines,
    stream_records,
)
from tests.support.locations import NOON_MS, event

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128).filter(
    lambda name: len(name.encode()) <= 128
)
awkward = st.text(st.sampled_from(":%\x00a3A"), min_size=1, max_size=128)
ids = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64)
parts = st.tuples(names | awkward, names | awkward, ids)


@given(parts, parts)
def test_identities_differ_as_their_parts_do_and_fit(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (document_id(*one) == document_id(*other)) == (one == other)
    assert 0 < len(document_id(*one).encode()) <= MAX_ID_BYTES
    assert not any(ord(letter) < 32 for letter in document_id(*one))


def test_the_case_that_would_join_two_tenants() -> None:
    assert document_id("a", "b:c", "d") == "a:b%3Ac:d"
    assert document_id("a", "b", "c:d") == "a:b:c%3Ad"
    assert document_id("a", "b%3Ac", "d") == "a:b%253Ac:d"
    assert device_id("a:b", "c") != device_id("a", "b:c")


@given(st.lists(parts, min_size=1, max_size=5))
def test_both_ways_have_one_identity(many: list[tuple[str, str, str]]) -> None:
    groups = [DeviceEvents(account, device, [event(name)]) for account, device, name in many]
    direct = [json.decode(line) for line in encode_lines(bulk_lines("p", groups)).splitlines()]
    stream = [json.decode(record) for record in stream_records(groups)]
    for action, document, record in zip(direct[::2], direct[1::2], stream, strict=True):
        assert action["create"]["_id"] == record.pop("document_id")
        assert document == record


def test_an_event_goes_to_the_index_of_its_own_day() -> None:
    assert index_of("p", 0) == "p-1970.01.01"
    assert index_of("p", -1) == "p-1969.12.31"
    assert index_of("p", 1_764_460_799_999) == "p-2025.11.29"
    assert index_of("p", 1_764_460_800_000) == "p-2025.11.30"


def test_the_lines_of_a_bulk_request() -> None:
    one = event("e", NOON_MS, 1.5, -2.5, accuracy=3.0, attributes={"a": 1})
    body = encode_lines([*bulk_lines("p", [DeviceEvents("t", "d", [one])]), latest_lines("l", "t", "d", one)])
    assert body.endswith(b"\n")
    action, document, replace, latest = (json.decode(line) for line in body.splitlines())
    assert action == {"create": {"_index": index_of("p", NOON_MS), "_id": "t:d:e"}}
    assert document == {
        "account": "t",
        "device": "d",
        "id": "e",
        "time": NOON_MS,
        "location": [-2.5, 1.5],
        "accuracy": 3.0,
        "attributes": {"a": 1},
    }
    version = {"_index": "l", "_id": "t:d", "version": NOON_MS, "version_type": "external_gte"}
    assert replace == {"index": version}
    assert latest == document
