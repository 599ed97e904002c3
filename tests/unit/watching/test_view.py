"""What a person sees of a channel, one line an event."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.watching.messages import Event, Subscribed, decode, encode_subscribe
from gateway.watching.view import as_json, line

NOON_MS = 1_796_126_400_000


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (
            {"connected": True, "location": {"time": 5, "lat": 35.1, "lon": 135.2, "speed": 1.25, "heading": 90}},
            "connected  35.100000, 135.200000  1.25 m/s  90°",
        ),
        ({"connected": False, "location": None}, "away       no location yet"),
        ({"something": "else"}, '{"something":"else"}'),
        (7, "7"),
    ],
)
def test_a_device(data: Any, shown: str) -> None:
    assert line("device:dog-1", NOON_MS, None, data) == f"12:00:00  {shown}"


def test_other_channels_are_shown_as_they_came() -> None:
    assert line("run:1", NOON_MS, 7, {"connected": True}) == '12:00:00 #7  {"connected":true}'
    assert line("run:1", None, 7, {"steps": 2}) == 'now      #7  {"steps":2}'


def test_json_is_what_came() -> None:
    assert as_json(Event("run:1", 5, {"a": None}, 3)) == (
        '{"type":"event","channel":"run:1","time":5,"data":{"a":null},"offset":3}'
    )
    assert as_json(Subscribed("run:1")) == '{"type":"subscribed","channel":"run:1"}'


def test_what_a_watcher_does_not_need_is_nothing() -> None:
    assert decode('{"type":"welcome","connection":"x"}') is None
    assert encode_subscribe("run:1", 0) == b'{"type":"subscribe","channel":"run:1","after":0}'
