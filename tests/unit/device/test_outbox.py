import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.device.outbox import Outbox


def payload(id_: str) -> bytes:
    return json.dumps({"id": id_}, separators=(",", ":")).encode()


def ids(frame: bytes) -> list[str]:
    message = json.loads(frame)
    return [message["id"]] if message["type"] == "location" else [event["id"] for event in message["events"]]


def filled(*names: str, capacity: int = 100, window: int = 100) -> Outbox:
    outbox = Outbox(capacity, window, 30.0)
    for name in names:
        outbox.put(name, payload(name))
    return outbox


def take(outbox: Outbox, now_s: float = 0.0, max_events: int = 500, max_bytes: int = 131_072) -> list[str]:
    message = outbox.take(now_s, max_events, max_bytes)
    return [] if message is None else ids(message.payload)


def test_one_event_is_a_location_and_several_are_locations() -> None:
    assert json.loads(filled("a").take(0, 500, 1000).payload) == {"type": "location", "id": "a"}  # type: ignore[union-attr]
    assert json.loads(filled("a", "b").take(0, 500, 1000).payload) == {  # type: ignore[union-attr]
        "type": "locations",
        "events": [{"id": "a"}, {"id": "b"}],
    }


def test_what_is_in_flight_is_not_taken_twice_until_the_connection_is_lost() -> None:
    outbox = filled("a", "b", "c")
    assert take(outbox, max_events=2) == ["a", "b"]
    assert take(outbox) == ["c"]
    assert take(outbox) == []
    assert outbox.disconnected() == 3
    assert take(outbox) == ["a", "b", "c"]
    assert (outbox.sent, outbox.resent) == (3, 3)


def test_acknowledged_is_forgotten_and_timed_from_its_first_sending() -> None:
    outbox = filled("a")
    take(outbox, now_s=1.0)
    outbox.disconnected()
    take(outbox, now_s=2.0)
    assert outbox.acknowledge(["a", "a", "never"], 3.5) == [2500.0]
    assert (len(outbox), outbox.acked, outbox.in_flight) == (0, 1, 0)


def test_a_nack_with_a_time_is_obeyed_and_one_without_is_final() -> None:
    outbox = filled("a", "b")
    take(outbox)
    assert outbox.refuse(["a"], 1500, 10.0) == 0
    assert outbox.refuse(["b"], None, 10.0) == 1
    assert take(outbox, now_s=11.4) == []
    assert outbox.next_due_s() == 11.5
    assert take(outbox, now_s=11.5) == ["a"]
    assert (outbox.rejected, len(outbox)) == (1, 1)


def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    outbox = filled("a")
    take(outbox, now_s=1.0)
    assert outbox.next_due_s() == 31.0
    assert outbox.overdue(30.9) == 0
    assert outbox.overdue(31.0) == 1
    assert take(outbox, now_s=31.0) == ["a"]


def test_full_drops_the_oldest_that_is_not_in_flight() -> None:
    outbox = filled("a", "b", "c", capacity=3)
    take(outbox, max_events=1)
    assert outbox.put("d", payload("d")) == "b"
    assert take(outbox) == ["c", "d"]
    assert outbox.put("e", payload("e")) == "a"
    assert (outbox.dropped, outbox.in_flight) == (2, 2)


@pytest.mark.parametrize("max_bytes", [60, 61, 100, 1000])
def test_frames_keep_to_the_servers_limit(max_bytes: int) -> None:
    outbox = filled(*(f"id-{number}" for number in range(50)))
    seen = []
    while (message := outbox.take(0, 500, max_bytes)) is not None:
        assert len(message.payload) <= max_bytes
        seen += ids(message.payload)
    assert seen == [f"id-{number}" for number in range(50)]


def test_what_could_never_be_sent_is_given_up_and_does_not_block_the_rest() -> None:
    outbox = filled("x" * 200, "a")
    assert take(outbox, max_bytes=100) == ["a"]
    assert (outbox.rejected, len(outbox)) == (1, 1)


def test_the_window_bounds_what_is_in_flight() -> None:
    outbox = filled("a", "b", "c", window=2)
    assert take(outbox) == ["a", "b"]
    assert take(outbox) == []
    outbox.acknowledge(["a"], 0)
    assert take(outbox) == ["c"]


class Conservation(RuleBasedStateMachine):
    """Whatever happens, every event is either kept, acknowledged, rejected or dropped, and counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(capacity=8, window=5, resend_after_s=10.0)
        self.put_count = 0
        self.now_s = 0.0
        self.flying: list[str] = []

    @rule()
    def put(self) -> None:
        self.outbox.put(f"e{self.put_count}", payload(f"e{self.put_count}"))
        self.put_count += 1

    @rule(max_events=st.integers(1, 6), max_bytes=st.integers(30, 200))
    def send(self, max_events: int, max_bytes: int) -> None:
        self.flying += take(self.outbox, self.now_s, max_events, max_bytes)

    @rule(count=st.integers(1, 4))
    def acknowledge(self, count: int) -> None:
        self.outbox.acknowledge(self.flying[:count], self.now_s)

    @rule(count=st.integers(1, 4), retry_after_ms=st.none() | st.integers(0, 5000))
    def refuse(self, count: int, retry_after_ms: int | None) -> None:
        self.outbox.refuse(self.flying[-count:], retry_after_ms, self.now_s)

    @rule()
    def disconnect(self) -> None:
        self.outbox.disconnected()

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.outbox.overdue(self.now_s)

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        outbox = self.outbox
        assert self.put_count == len(outbox) + outbox.acked + outbox.rejected + outbox.dropped
        assert 0 <= outbox.in_flight <= min(len(outbox), 5)
        assert len(outbox) <= 8


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=50, deadline=None)
