"""What a message asks for, and how a bad one is answered: with the path of the field, and the rest kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.locations.event import LocationEvent, Problem
from gateway.locations.times import EventTimes
from gateway.protocol.messages import MAX_EVENTS
from gateway.protocol.requests import Action, Invalid, Renew, Reply, Store, interpret
from tests.support.fake_clock import START_MS, FakeClock

EVENT = {"id": "e1", "time": START_MS, "lat": 35.6, "lon": 139.7}
DAY_MS = 86_400_000


def _say(message: object, may_write: bool = True) -> Action:
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return interpret(payload, may_write, START_MS)


def _location(**changes: object) -> dict[str, Any]:
    return {"type": "location", **EVENT, **changes}


def _answer(action: Action) -> dict[str, Any]:
    assert isinstance(action, Reply | Invalid)
    return json.loads(action.message)  # type: ignore[no-any-return]


def _error(message: object) -> dict[str, Any]:
    action = _say(message)
    assert isinstance(action, Invalid)
    return _answer(action)


# One location


def test_a_location() -> None:
    action = _say(_location(accuracy=5, altitude=None, attributes={"battery": 0.5, "door": True}, unknown=[1]))
    assert isinstance(action, Store)
    (event,) = action.events
    assert (event.id, event.lat, event.accuracy, event.altitude) == ("e1", 35.6, 5.0, None)
    assert action.refused == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"lat": 90.1}, "$.lat"),
        ({"lat": "35"}, "$.lat"),
        ({"lat": None}, "$.lat"),
        ({"lon": -180.5}, "$.lon"),
        ({"accuracy": -1}, "$.accuracy"),
        ({"heading": 361}, "$.heading"),
        ({"time": 1.5}, "$.time"),
        ({"time": START_MS - 30 * DAY_MS - 1}, "$.time"),
        ({"time": START_MS + DAY_MS + 1}, "$.time"),
        ({"time": 10**40}, "$.time"),
        ({"attributes": [1]}, "$.attributes"),
        ({"attributes": {"a": {"nested": 1}}}, "$.attributes"),
        ({"attributes": {"a": "x" * 1100}}, "$.attributes"),
        ({"id": "é"}, "$.id"),
        ({"id": "a\nb"}, "$.id"),
        ({"id": "x" * 65}, "$.id"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, object], path: str) -> None:
    answer = _error(_location(**changes))
    assert (answer["type"], answer["code"]) == ("nack", "invalid")
    assert answer["ids"] == [changes.get("id", "e1")]
    assert f"`{path}" in answer["message"]
    assert "retry_after_ms" not in answer


@pytest.mark.parametrize("time", [START_MS - 30 * DAY_MS, START_MS + DAY_MS])
def test_the_bounds_of_time_are_inclusive(time: int) -> None:
    assert isinstance(_say(_location(time=time)), Store)


def test_without_an_id_it_is_an_error() -> None:
    message = {name: value for name, value in _location().items() if name != "id"}
    answer = _error(message)
    assert (answer["type"], answer["code"]) == ("error", "invalid")
    assert "`id`" in answer["message"]
    assert _error(_location(id=5))["message"].endswith("`$.id`")


def test_an_infinite_number() -> None:
    answer = _error(json.dumps(_location()).replace("35.6", "1e999").encode())
    assert answer["message"] == "Number out of range - at `$.lat`"


def test_the_last_of_two_equal_fields_counts() -> None:
    action = _say(b'{"type":"location","id":"a","id":"b","time":%d,"lat":1,"lon":2}' % START_MS)
    assert isinstance(action, Store)
    assert action.events[0].id == "b"


@pytest.mark.parametrize("time", [f"{START_MS}.0", f"{START_MS}.000", f"{START_MS / 1e12}e12", f"{START_MS}E0"])
def test_a_whole_time_may_be_written_with_a_fraction_or_an_exponent(time: str) -> None:
    payload = json.dumps(_location()).replace(str(START_MS), time).encode()
    action = _say(payload)
    assert isinstance(action, Store)
    assert action.events[0].time == START_MS
    assert type(action.events[0].time) is int
    many = b'{"type":"locations","events":[%s,%s]}' % (payload, json.dumps({**EVENT, "id": "e2"}).encode())
    action = _say(many)
    assert isinstance(action, Store)
    assert [event.time for event in action.events] == [START_MS, START_MS]
    assert action.refused == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('"attributes":{"n":9223372036854775808}', "$.attributes.n"),
        ('"attributes":{"n":-9223372036854775809}', "$.attributes.n"),
        (f'"attributes":{{"a":1,"big":{"9" * 5000}}}', "$.attributes.big"),
        ('"attributes":{"n":1e400}', "$.attributes.n"),
        ('"attributes":{"n":"\\ud800"}', "$.attributes.n"),
        ('"attributes":{"\\udfff":1}', "$.attributes"),
        ('"attributes":{"n":[1]}', "$.attributes.n"),
        ('"time":"\\udcff"', "$.time"),
        ('"lat":"\\ud800"', "$.lat"),
        ('"speed":"\\ud800"', "$.speed"),
        ('"speed":1e400', "$.speed"),
        (f'"speed":{"9" * 400}', "$.speed"),
        ('"accuracy":1e10', "$.accuracy"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name_and_the_others_are_stored(text: str, path: str) -> None:
    bad = f'{{"id":"bad","time":{START_MS},"lat":1,"lon":2,{text}}}'
    answer = _error(b'{"type":"location",' + bad.encode()[1:])
    assert (answer["code"], answer["ids"]) == ("invalid", ["bad"])
    assert f"`{path}`" in answer["message"]
    action = _say(
        f'{{"type":"locations","events":[{json.dumps(EVENT)},{bad},{json.dumps({**EVENT, "id": "e3"})}]}}'.encode()
    )
    assert isinstance(action, Store)
    assert [event.id for event in action.events] == ["e1", "e3"]
    (nack,) = action.refused
    assert list(nack.ids) == ["bad"]
    assert f"`$.events[1]{path[1:]}`" in nack.message


@pytest.mark.parametrize(
    "text", ['"\\ud83d":1', '"note":"\\ud800"', '"note":{"\\ud800":["\\udfff"]}', '"\\udc00\\ud800":null']
)
def test_what_is_not_known_of_an_event_may_be_no_text(text: str) -> None:
    odd = f'{{"id":"odd","time":{START_MS},"lat":1,"lon":2,{text}}}'
    for payload, ids in (
        ('{"type":"location",' + odd[1:], ["odd"]),
        (f'{{"type":"locations","events":[{json.dumps(EVENT)},{odd}],{text}}}', ["e1", "odd"]),
    ):
        action = _say(payload.encode())
        assert isinstance(action, Store)
        assert [event.id for event in action.events] == ids
        assert action.refused == []


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (b'{"type":"\\ud800"}', "$.type"),
        (b'{"type":"locations","events":"\\ud800"}', "$.events"),
        (b'{"type":"locations","events":{"\\ud800":1}}', "$.events"),
        (b'{"type":"locations","\\ud800":1}', "events"),
        (b'{"type":{"\\ud800":1}}', "$.type"),
        (b'"\\ud800"', "$"),
    ],
)
def test_a_message_whose_own_text_is_no_text_is_refused_by_name(payload: bytes, path: str) -> None:
    answer = _error(payload)
    assert (answer["type"], answer["code"]) == ("error", "invalid")
    assert f"`{path}`" in answer["message"]


def test_an_event_that_may_be_sent_again_is_no_invalid_message() -> None:
    def later(events: Sequence[LocationEvent], now_ms: int) -> dict[int, Problem]:
        return {0: Problem("later - at `$.time`", "clock", 1000)}

    action = interpret(json.dumps(_location()).encode(), True, START_MS, later)
    assert isinstance(action, Reply)
    answer = _answer(action)
    assert (answer["code"], answer["retry_after_ms"], answer["message"]) == ("clock", 1000, "later - at `$.time`")
    action = interpret(json.dumps(_locations(EVENT, {**EVENT, "id": "e2"})).encode(), True, START_MS, later)
    assert isinstance(action, Store)
    assert [event.id for event in action.events] == ["e2"]
    (nack,) = action.refused
    assert (nack.ids, nack.code, nack.retry_after_ms) == (("e1",), "clock", 1000)


def test_whole_numbers_of_64_bits_are_kept() -> None:
    action = _say(_location(attributes={"a": 2**63 - 1, "b": -(2**63), "c": 1e308}))
    assert isinstance(action, Store)
    assert action.events[0].attributes == {"a": 2**63 - 1, "b": -(2**63), "c": 1e308}


@pytest.mark.parametrize("name", ['"\\ud800"', '"a\\udc00b"'])
def test_an_event_whose_name_is_not_unicode_is_refused_without_one(name: str) -> None:
    text = json.dumps({**EVENT, "id": "bad"}).replace('"bad"', name)
    action = _say(f'{{"type":"locations","events":[{text},{json.dumps(EVENT)}]}}'.encode())
    assert isinstance(action, Store)
    assert [event.id for event in action.events] == ["e1"]
    (nack,) = action.refused
    assert list(nack.ids) == []
    assert "`$.events[0].id`" in nack.message


def test_text_that_is_not_utf_8_costs_only_its_event() -> None:
    good, bad = json.dumps(EVENT).encode(), json.dumps({**EVENT, "id": "bad", "attributes": {"n": "?"}}).encode()
    for rest in (b"", b',"note":"\xff"'):
        action = _say(b'{"type":"locations","events":[%s,%s]%s}' % (good, bad.replace(b"?", b"\xff\xfe"), rest))
        assert isinstance(action, Store)
        assert [event.id for event in action.events] == ["e1"]
        assert [list(nack.ids) for nack in action.refused] == [["bad"]]
        assert "`$.events[1].attributes.n`" in action.refused[0].message


@pytest.mark.parametrize("time", [2**53 + 1, -(2**53) - 1, 10**30, 10**309, -(10**400), 1e300], ids=range(6))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_time_beyond_all_clocks_costs_only_its_event(time: float, place: int) -> None:
    events = [{**EVENT, "id": f"e{number}"} for number in range(3)]
    events[place]["time"] = time
    judge = EventTimes(FakeClock()).judge
    action = interpret(
        json.dumps({"type": "locations", "events": events}).encode(), True, START_MS, partial(judge, "a", "d")
    )
    assert isinstance(action, Store)
    assert [event.id for event in action.events] == [f"e{number}" for number in range(3) if number != place]
    (nack,) = action.refused
    assert nack.ids == (f"e{place}",)
    assert f"`$.events[{place}].time`" in nack.message


def test_without_the_scope() -> None:
    answer = _answer(_say(_location(), may_write=False))
    assert (answer["type"], answer["ids"], answer["code"]) == ("nack", ["e1"], "forbidden")
    assert isinstance(_say(_location(lat=91), may_write=False), Invalid)


# Many locations


def _locations(*events: object) -> dict[str, Any]:
    return {"type": "locations", "events": list(events)}


def test_many_locations() -> None:
    action = _say(_locations(*({**EVENT, "id": f"e{number}"} for number in range(MAX_EVENTS))))
    assert isinstance(action, Store)
    assert len(action.events) == MAX_EVENTS


def test_bad_ones_do_not_spoil_the_good() -> None:
    good, wrong_type, wrong_time = EVENT, {**EVENT, "id": "e2", "lat": "x"}, {**EVENT, "id": "e3", "time": 0}
    action = _say(_locations(good, wrong_type, wrong_time, {**EVENT, "id": "e4"}))
    assert isinstance(action, Store)
    assert [event.id for event in action.events] == ["e1", "e4"]
    assert [(nack.ids, nack.code) for nack in action.refused] == [(("e2",), "invalid"), (("e3",), "invalid")]
    assert action.refused[0].message.endswith("`$.events[1].lat`")
    assert action.refused[1].message.endswith("`$.events[2].time`")


def test_a_bad_time_alone_takes_the_short_way() -> None:
    action = _say(_locations(EVENT, {**EVENT, "id": "e2", "time": 0}))
    assert isinstance(action, Store)
    assert len(action.events) == 1
    assert action.refused[0].message.endswith("`$.events[1].time`")


@pytest.mark.parametrize("bad", [5, None, [], {}, {**EVENT, "id": 5}])
def test_an_event_that_cannot_be_named_does_not_spoil_the_others(bad: object) -> None:
    action = _say(_locations(EVENT, bad))
    assert isinstance(action, Store)
    assert [event.id for event in action.events] == [EVENT["id"]]
    assert [list(nack.ids) for nack in action.refused] == [[]]
    assert "`$.events[1]" in action.refused[0].message


@pytest.mark.parametrize("events", [[], [EVENT] * (MAX_EVENTS + 1), None, {}, "x"])
def test_the_list_itself_is_wrong(events: object) -> None:
    answer = _error({"type": "locations", "events": events})
    assert answer["code"] == "invalid"
    assert answer["message"].endswith("`$.events`")


def test_no_list() -> None:
    assert "`events`" in _error({"type": "locations"})["message"]


def test_many_without_the_scope() -> None:
    action = _say(_locations(EVENT, {**EVENT, "id": "e2", "lat": 99}), may_write=False)
    assert isinstance(action, Store)
    assert action.events == []
    assert [(tuple(nack.ids), nack.code) for nack in action.refused] == [(("e2",), "invalid"), (("e1",), "forbidden")]


# Other messages


def test_auth() -> None:
    assert _say({"type": "auth", "token": "abc"}) == Renew("abc")
    assert "`$.token`" in _error({"type": "auth", "token": 5})["message"]
    assert "`token`" in _error({"type": "auth"})["message"]


def test_ping() -> None:
    assert _answer(_say({"type": "ping"})) == {"type": "pong"}
    assert _answer(_say({"type": "ping", "id": "7"})) == {"type": "pong", "id": "7"}
    assert "`$.id`" in _error({"type": "ping", "id": "x" * 129})["message"]


def test_an_unknown_type() -> None:
    answer = _error({"type": "teleport", "id": "x"})
    assert answer["code"] == "unknown_type"
    assert "'teleport'" in answer["message"]
    assert answer["message"].endswith("`$.type`")
    assert len(_error({"type": "x" * 100_000})["message"]) < 200


@pytest.mark.parametrize("message", [{}, {"type": None}, {"type": 5}, [], "text", 5, None, True])
def test_no_type(message: object) -> None:
    assert _error(message)["code"] == "invalid"


def test_an_error_names_the_message_it_answers() -> None:
    assert _error({"type": 5, "id": "m1"})["id"] == "m1"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"{",
        b'{"type":"location"',
        b'{"type":"ping"}x',
        b"{'type':'ping'}",
        b'{"type":"ping",}',
        b'{"type":"ping","id":NaN}',
        b'{"type":"ping","x":' + b"[" * 100_000,
    ],
)
def test_what_is_not_json(payload: bytes) -> None:
    answer = _error(payload)
    assert (answer["type"], answer["code"]) == ("error", "malformed")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"location","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"type":"locations","events":[{"id":"a","x":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}]}",
    ],
)
def test_what_is_nested_deeply(payload: bytes) -> None:
    """How deep a decoder goes is the interpreter's to say: from Python 3.14 on, as deep as its stack is."""
    action = _say(payload)
    if isinstance(action, Store):
        assert not action.events
        assert [nack.code for nack in action.refused] == ["invalid"]
    else:
        assert _error(payload)["code"] in ("malformed", "invalid")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=12,
)
fields = st.sampled_from(["type", "id", "time", "lat", "lon", "events", "attributes", "token"])
kinds = st.sampled_from(["location", "locations", "auth", "ping", "x"])


@given(kinds, st.dictionaries(fields, json_values), st.booleans())
def test_any_object_gets_an_action(kind: str, rest: dict[str, object], may_write: bool) -> None:
    action = _say({**rest, "type": kind}, may_write)
    if isinstance(action, Reply | Invalid):
        assert json.loads(action.message)["type"] in ("error", "nack", "pong")


@given(st.one_of(st.text(), json_values.map(json.dumps)), st.booleans())
def test_any_text_gets_an_action(text: str, may_write: bool) -> None:
    _say(text.encode("utf-8", "ignore"), may_write)
