"""The session `heiwa.v1.json` on a connection without a socket and a pipeline that only remembers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from gateway.channels.commands import DeviceError, Outcome, Progress, Settled
from gateway.channels.senders import Wish
from gateway.connections.connection import Connection
from gateway.errors import KeysUnknownError
from gateway.identity.identity import Identity
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability, Refusal, Submitted
from gateway.locations.times import EventTimes
from gateway.protocol.session import MAX_STRIKES, DeviceSession
from tests.support.bench import Bench, FakeAuthenticator, device
from tests.support.fake_clock import START_MS
from tests.support.fake_transport import FakeTransport
from tests.support.locations import ManualClock
from tests.support.wire import BINARY, CLOSE, PING, TEXT, client_frame, server_frames


class Pipeline:
    """Remembers what was submitted."""

    def __init__(self) -> None:
        self.answer = Submitted()
        self.submitted: list[tuple[object, str, str, list[Any]]] = []
        self.forgotten: list[object] = []
        self.times = EventTimes(ManualClock(START_MS))

    def submit(self, outcomes: object, sender: object, account: str, name: str, events: list[Any]) -> Submitted:
        self.submitted.append((sender, account, name, events))
        return self.answer

    def forget(self, sender: object) -> None:
        self.forgotten.append(sender)


class FakeCourier:
    """Remembers what devices said about commands."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def report(self, member: object, command: str, progress: Progress) -> None:
        self.told.append(("report", member, command, progress))

    def result(self, member: object, command: str, settled: Settled) -> None:
        self.told.append(("result", member, command, settled))

    def closed(self, member: object) -> None:
        self.told.append(("closed", member))


class FakeChannels:
    """Remembers what clients ask of channels, and what devices do."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def subscribe(self, subscriber: object, name: str, after: int | None) -> None:
        self.told.append(("subscribe", subscriber, name, after))

    def send(self, sender: object, wish: Wish) -> None:
        self.told.append(("send", sender, wish))

    def unsubscribe(self, subscriber: object, name: str) -> None:
        self.told.append(("unsubscribe", subscriber, name))

    def writable(self, subscriber: object) -> None:
        self.told.append(("writable", subscriber))

    def renewed(self, subscriber: object) -> None:
        self.told.append(("renewed", subscriber))

    def closed(self, subscriber: object) -> None:
        self.told.append(("closed", subscriber))

    def moved(self, account: str, device: str, events: Any) -> None:
        self.told.append(("moved", account, device, [event.id for event in events]))

    def connection_changed(self, account: str, device: str, slot: int) -> None:
        self.told.append(("changed", account, device))


class Talk:
    """One device and what it is told."""

    def __init__(self, identity: Identity | None = None, *flags: str, **tokens: Identity) -> None:
        self.pipeline = Pipeline()
        self.tokens = FakeAuthenticator(**tokens)
        self.courier = FakeCourier()
        self.channels = FakeChannels()
        self.session = DeviceSession(
            self.pipeline,  # type: ignore[arg-type]
            self.courier,  # type: ignore[arg-type]
            self.channels,  # type: ignore[arg-type]
            self.channels,  # type: ignore[arg-type]
            self.channels,  # type: ignore[arg-type]
            self.tokens,
        )
        self.bench = Bench(*flags, session=self.session, authenticator=self.tokens)
        self.connection: Connection
        self.transport: FakeTransport
        self.connection, self.transport = self.bench.open(identity)
        self.welcome = self.hear()[0]

    def say(self, **message: Any) -> list[Any]:
        self.transport.feed(client_frame(TEXT, msgspec.json.encode(message)))
        return self.hear()

    def hear(self) -> list[Any]:
        """Messages as objects, closes as codes."""
        return [
            frame.close_code if frame.opcode == CLOSE else msgspec.json.decode(frame.payload)
            for frame in server_frames(self.transport.take())
        ]

    def event(self, name: str = "e1", **changes: Any) -> dict[str, Any]:
        return {"id": name, "time": self.bench.clock.time_ms(), "lat": 1.0, "lon": 2.0, **changes}


def test_welcome() -> None:
    talk = Talk()
    assert talk.welcome["type"] == "welcome"
    assert (talk.welcome["heartbeat_s"], talk.welcome["max_message_bytes"], talk.welcome["max_events"]) == (
        45,
        131_072,
        500,
    )
    assert talk.welcome["time"] == talk.bench.clock.time_ms()
    assert UUID(talk.welcome["connection"])


def test_events_go_to_the_pipeline_and_acks_come_back() -> None:
    talk = Talk()
    assert talk.say(type="location", **talk.event()) == []
    ((sender, account, name, events),) = talk.pipeline.submitted
    assert (sender, account, name) == (talk.connection, "acme", "dev-1")
    assert talk.connection.in_flight == 1
    talk.session.acknowledge(talk.connection, events, Durability.SPOOLED)
    assert talk.hear() == [{"type": "ack", "ids": ["e1"], "durability": "spooled"}]
    assert talk.connection.in_flight == 0


def test_pressure_pauses_reading() -> None:
    talk = Talk()
    talk.pipeline.answer = Submitted(pause=True)
    talk.say(type="location", **talk.event())
    assert not talk.transport.reading
    talk.session.resume(talk.connection)
    assert talk.transport.reading


def test_a_submission_that_is_refused_is_answered_and_leaves_nothing_in_flight() -> None:
    talk = Talk()
    talk.pipeline.answer = Submitted(Refusal("overloaded", "slow down", 1500), pause=True)
    (nack,) = talk.say(type="location", **talk.event())
    assert nack == {
        "type": "nack",
        "ids": ["e1"],
        "code": "overloaded",
        "message": "slow down",
        "retry_after_ms": 1500,
    }
    assert talk.connection.in_flight == 0
    assert not talk.transport.reading


def test_events_that_are_refused_later_are_answered() -> None:
    talk = Talk()
    talk.say(type="locations", events=[talk.event("a"), talk.event("b")])
    talk.session.refuse(talk.connection, ["a", "b"], Refusal("spool_full", "later", 5000))
    (nack,) = talk.hear()
    assert (nack["ids"], nack["code"], nack["retry_after_ms"]) == (["a", "b"], "spool_full", 5000)
    assert talk.connection.in_flight == 0


def test_the_latest_position_is_kept() -> None:
    talk = Talk()
    latest = talk.bench.hub.registry.latest
    talk.say(type="locations", events=[talk.event(name) for name in "abc"])
    assert latest("acme", "dev-1") is None
    events = [LocationEvent(name, time, 35.0, 139.0) for name, time in (("a", 2000), ("b", 3000), ("c", 1000))]
    talk.session.acknowledge(talk.connection, events[:2], Durability.INDEXED)
    talk.session.acknowledge(talk.connection, events[2:], Durability.INDEXED)
    assert latest("acme", "dev-1") == {"device": "dev-1", "time": 3000, "lat": 35.0, "lon": 139.0}
    assert talk.connection.in_flight == 0


def test_refused_events_are_answered_and_the_rest_is_stored() -> None:
    talk = Talk()
    (nack,) = talk.say(type="locations", events=[talk.event("a"), talk.event("b", lat=91)])
    assert nack["ids"] == ["b"]
    assert [event.id for event in talk.pipeline.submitted[0][3]] == ["a"]
    assert talk.connection.in_flight == 1


def test_without_the_scope_nothing_is_stored() -> None:
    talk = Talk(device("tab", "acme", "progress:read"))
    (nack,) = talk.say(type="location", **talk.event())
    assert nack["code"] == "forbidden"
    assert talk.pipeline.submitted == []


def test_the_pipeline_forgets_a_connection_that_ended() -> None:
    talk = Talk()
    talk.transport.finish()
    assert talk.pipeline.forgotten == [talk.connection]


def test_repeated_invalid_messages_end_with_4400() -> None:
    talk = Talk()
    for _ in range(MAX_STRIKES - 1):
        (error,) = talk.say(type="nonsense")
        assert error["code"] == "unknown_type"
    error, code = talk.say(type="nonsense")
    assert code == 4400
    talk.transport.finish()
    assert talk.session._strikes == {}


# Renewal of the token


def _expiring(after_s: float, **claims: Any) -> Identity:
    return device(**claims)._replace(expires_s=1_750_000_000 + after_s)


def test_a_new_token() -> None:
    talk = Talk(_expiring(60), new=_expiring(7200))
    assert talk.say(type="auth", token="new") == [{"type": "authenticated", "expires": 1_750_007_200_000}]
    slot = talk.connection.slot
    table = talk.bench.hub.table
    assert table.expires_ms[slot] == 1_750_007_200_000
    assert 7200 * 0.8 <= table.planned_s[slot] - talk.bench.hub.now_s <= 7200


def test_a_new_token_may_have_other_scopes_in_the_same_account() -> None:
    talk = Talk(device(), reader=device("dev-1", "acme", "progress:read"))
    account = talk.connection.profile.account
    talk.say(type="auth", token="reader")
    assert talk.connection.profile.account is account
    (nack,) = talk.say(type="location", **talk.event())
    assert nack["code"] == "forbidden"
    talk.transport.finish()
    assert talk.bench.hub.registry.total == account.connected == 0


def test_a_new_token_that_nobody_can_check_now_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(_expiring(60), new=_expiring(7200))

    def fail(_: str) -> Identity:
        raise KeysUnknownError("the keys of the issuer are not known at the moment")

    with monkeypatch.context() as patch:
        patch.setattr(talk.tokens, "verify", fail)
        (error,) = talk.say(type="auth", token="new")
    assert error["code"] == "unavailable"
    assert talk.bench.hub.table.expires_ms[talk.connection.slot] == 1_750_000_060_000
    assert talk.say(type="auth", token="new")[0]["type"] == "authenticated"


@pytest.mark.parametrize(("token", "code"), [("unknown", 4401), ("neighbour", 4403), ("tenant", 4403)])
def test_a_token_that_is_not_taken(token: str, code: int) -> None:
    talk = Talk(device(), neighbour=device("dev-2"), tenant=device("dev-1", "other"))
    assert talk.say(type="auth", token=token) == [code]
    assert talk.say(type="location", **talk.event()) == []
    assert talk.pipeline.submitted == []


def test_a_token_that_expires_ends_with_4401() -> None:
    talk = Talk(_expiring(100), "connections.heartbeat_s=1000", same=_expiring(100))
    talk.say(type="auth", token="same")
    talk.bench.pass_time(101)
    (goaway,) = talk.hear()
    assert (goaway["type"], goaway["reason"]) == ("goaway", "token_expired")
    talk.bench.pass_time(3)
    assert talk.hear() == [4401]


def test_renewal_after_goaway_lets_it_stay() -> None:
    talk = Talk(_expiring(100), "connections.heartbeat_s=1000", same=_expiring(100), new=_expiring(7200))
    talk.say(type="auth", token="same")
    talk.bench.pass_time(100.5)
    assert talk.hear()[0]["type"] == "goaway"
    assert talk.say(type="auth", token="new")[0]["type"] == "authenticated"
    talk.bench.pass_time(10)
    assert talk.hear() == []


# What devices can take


@pytest.mark.parametrize(("device_class", "most", "max_events"), [("", 16_384, 500), ("esp-idf", 1000, 25)])
def test_no_frame_is_larger_than_the_class_can_take(device_class: str, most: int, max_events: int) -> None:
    talk = Talk(device(device_class=device_class))
    assert talk.welcome["max_events"] == max_events
    names = [f"{number:04}-1a202ff3-cbc9-4d84-9e2f-0242ac12" for number in range(500)]
    talk.say(type="locations", events=[talk.event(name) for name in names])
    (_, _, _, events) = talk.pipeline.submitted[0]
    writes = talk.transport.writes
    talk.session.acknowledge(talk.connection, events, Durability.INDEXED)
    assert talk.transport.writes == writes + 1
    sent = bytes(talk.transport.written)
    frames = server_frames(sent)
    assert max(len(frame.payload) + 4 for frame in frames) <= most
    acks = talk.hear()
    assert [name for ack in acks for name in ack["ids"]] == names
    assert len(acks) == -(-len(sent) // most)


def test_many_bad_events_are_one_answer_and_a_strike() -> None:
    talk = Talk()
    for _ in range(MAX_STRIKES - 1):
        (nack,) = talk.say(type="locations", events=[{}] * 500)
        assert nack["ids"] == []
        assert "499 more" in nack["message"]
    assert talk.say(type="locations", events=[{}])[-1] == 4400


def test_one_good_event_takes_the_strikes_away() -> None:
    talk = Talk()
    for _ in range(MAX_STRIKES - 1):
        talk.say(type="locations", events=[{}])
    talk.say(type="locations", events=[{}, talk.event()])
    assert len(talk.say(type="locations", events=[{}])) == 1


def test_events_that_the_token_does_not_allow_are_no_strike() -> None:
    talk = Talk(device("dev-1", "acme", "progress:read"))
    for _ in range(MAX_STRIKES + 1):
        (nack,) = talk.say(type="locations", events=[talk.event()])
        assert nack["code"] == "forbidden"


def test_a_class_may_want_pings_with_a_payload() -> None:
    for device_class, payload in (("zephyr", b"\0"), ("", b"")):
        talk = Talk(device(device_class=device_class), "connections.heartbeat_s=10")
        talk.bench.pass_time(11)
        (ping,) = server_frames(talk.transport.take())
        assert (ping.opcode, ping.payload) == (PING, payload)


def test_binary_messages_are_refused() -> None:
    talk = Talk()
    talk.transport.feed(client_frame(BINARY, b"{}"))
    assert talk.hear() == [1003]


# Renewal


def _reader(name: str = "dev-1") -> Identity:
    return device(name, "acme", "progress:read")


@pytest.mark.parametrize(("rule", "first", "second"), [("replace", 4409, None), ("reject", None, 4403)])
def test_a_new_token_does_not_get_around_the_rule_of_duplicates(
    rule: str, first: int | None, second: int | None
) -> None:
    talk = Talk(_reader(), f"connections.duplicates={rule}", writer=device())
    other, transport = talk.bench.open(_reader())
    transport.take()
    talk.say(type="auth", token="writer")
    assert talk.connection.profile.may_write
    transport.feed(client_frame(TEXT, b'{"type":"auth","token":"writer"}'))
    assert [heard for heard in talk.hear() if isinstance(heard, int)] == ([] if first is None else [first])
    codes = [frame.close_code for frame in server_frames(transport.take()) if frame.opcode == CLOSE]
    assert codes == ([] if second is None else [second])
    assert other.profile.may_write == (second is None)


def test_both_may_send_where_duplicates_are_allowed() -> None:
    talk = Talk(_reader(), "connections.duplicates=allow", writer=device())
    other, transport = talk.bench.open(_reader())
    talk.say(type="auth", token="writer")
    transport.feed(client_frame(TEXT, b'{"type":"auth","token":"writer"}'))
    assert talk.connection.profile.may_write
    assert other.profile.may_write
    assert talk.connection.stays


def test_a_new_token_without_a_class_keeps_that_of_the_user_agent() -> None:
    talk = Talk(device(device_class="esp-idf"), more=device(), other=device(device_class="tiny"))
    talk.say(type="auth", token="more")
    assert talk.connection.profile.device_class == "esp-idf"
    talk.say(type="auth", token="other")
    assert talk.connection.profile.device_class == "tiny"


# Commands


def test_a_result_and_a_report_go_to_the_courier() -> None:
    talk = Talk()
    assert talk.say(type="report", command="c1", percent=40, message="heating") == []
    assert talk.say(type="result", command="c1", ok=True, value={"on": True}) == []
    assert talk.say(type="result", command="c2", ok=False, error={"code": "jammed"}) == []
    assert talk.courier.told == [
        ("report", talk.connection, "c1", Progress(40, "heating")),
        ("result", talk.connection, "c1", Settled(Outcome.DONE, {"on": True})),
        ("result", talk.connection, "c2", Settled(Outcome.FAILED, DeviceError("jammed"))),
    ]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"type": "result", "command": "c1", "ok": False}, "`error`"),
        ({"type": "result", "command": "", "ok": True}, "$.command"),
        ({"type": "result", "ok": True}, "`command`"),
        ({"type": "report", "command": "c1", "percent": 101}, "$.percent"),
        ({"type": "report", "command": "c" * 65}, "$.command"),
    ],
)
def test_a_bad_result_is_answered_with_the_field(message: dict[str, Any], field: str) -> None:
    talk = Talk()
    (error,) = talk.say(**message)
    assert error["code"] == "invalid"
    assert field in error["message"]
    assert talk.courier.told == []


def test_the_courier_hears_of_the_end_of_a_connection() -> None:
    talk = Talk()
    talk.transport.finish()
    assert talk.courier.told == [("closed", talk.connection)]


def test_what_is_asked_of_channels_and_devices_gets_there() -> None:
    talk = Talk()
    talk.channels.told.clear()
    assert talk.say(type="subscribe", channel="device:dog-1") == []
    talk.say(type="subscribe", channel="run:1", after=7)
    talk.say(type="unsubscribe", channel="run:1")
    talk.say(type="command", id="1", device="lamp", name="switch", args=[1], deadline_ms=5, idempotent=True)
    assert talk.channels.told == [
        ("subscribe", talk.connection, "device:dog-1", None),
        ("subscribe", talk.connection, "run:1", 7),
        ("unsubscribe", talk.connection, "run:1"),
        ("send", talk.connection, Wish("1", "lamp", "switch", [1], 5, True)),
    ]


def test_events_that_are_durable_are_told_to_who_watches() -> None:
    talk = Talk()
    talk.say(type="location", **talk.event())
    ((_, _, _, events),) = talk.pipeline.submitted
    talk.session.acknowledge(talk.connection, events, Durability.INDEXED)
    talk.transport.finish()
    assert talk.channels.told == [
        ("changed", "acme", "dev-1"),
        ("moved", "acme", "dev-1", ["e1"]),
        ("closed", talk.connection),
        ("closed", talk.connection),
        ("changed", "acme", "dev-1"),
    ]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "subscribe"}, "Object missing required field `channel`"),
        ({"type": "subscribe", "channel": ""}, "Expected `str` of length >= 1 - at `$.channel`"),
        ({"type": "subscribe", "channel": "x" * 257}, "Expected `str` of length <= 256 - at `$.channel`"),
        ({"type": "subscribe", "channel": "é" * 200}, "Expected at most 256 bytes - at `$.channel`"),
        ({"type": "unsubscribe", "channel": "é" * 200}, "Expected at most 256 bytes - at `$.channel`"),
        ({"type": "subscribe", "channel": "a", "after": -1}, "Expected `int` >= 0 - at `$.after`"),
        ({"type": "subscribe", "channel": "a", "after": "7"}, "Expected `int | null`, got `str` - at `$.after`"),
        ({"type": "command", "id": "1", "device": "d", "name": ""}, "Expected `str` of length >= 1 - at `$.name`"),
        ({"type": "command", "id": "", "device": "d", "name": "n"}, "Expected `str` of length >= 1 - at `$.id`"),
        ({"type": "command", "id": "1", "device": "d", "name": "n", "deadline_ms": 60_001}, "Expected `int` <= 60000"),
    ],
)
def test_what_cannot_be_understood_is_said_and_counted(message: dict[str, Any], told: str) -> None:
    talk = Talk()
    (answer,) = talk.say(**message)
    assert (answer["type"], answer["code"]) == ("error", "invalid")
    assert told in answer["message"]
    for _ in range(MAX_STRIKES - 1):
        heard = talk.say(**message)
    assert heard[-1] == 4400
