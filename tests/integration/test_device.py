"""The device against a small server that misbehaves as real ones do."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus
from random import Random
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gateway.adapters.clock import SystemClock
from gateway.device.client import Device
from gateway.device.plan import Plan, Token
from gateway.device.track import Leg
from gateway.errors import SettingsError

Script = Callable[[ServerConnection, int], Awaitable[None]]
WELCOME = {
    "type": "welcome",
    "connection": "c",
    "time": 1,
    "heartbeat_s": 45,
    "max_message_bytes": 4096,
    "max_events": 500,
}


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def state(self, text: str) -> None:
        pass


class Lab:
    """A server whose connections follow scripts, one after the other (the last one for all that come later)."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.tokens: list[str] = []
        self.received: list[str] = []
        self.refusals: list[Response] = []
        self.heard = asyncio.Event()
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        index = len(self.tokens) - 1
        await connection.send(json.dumps(WELCOME))
        with contextlib.suppress(Exception):
            await self.scripts[min(index, len(self.scripts) - 1)](connection, index)

    def judge(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refusals:
            return self.refusals.pop(0)
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        return None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Server]:
        protocols = [Subprotocol("heiwa.v1.json")]
        async with serve(self.handle, "127.0.0.1", 0, subprotocols=protocols, process_request=self.judge) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            yield server

    async def events(self, connection: ServerConnection) -> AsyncIterator[list[str]]:
        """The ids of each message with locations."""
        async for frame in connection:
            message = json.loads(frame)
            if message["type"] == "location":
                ids = [message["id"]]
            elif message["type"] == "locations":
                ids = [event["id"] for event in message["events"]]
            else:
                continue
            self.received += ids
            self.heard.set()
            yield ids

    async def acknowledge(self, connection: ServerConnection, _: int) -> None:
        async for ids in self.events(connection):
            await connection.send(json.dumps({"type": "ack", "ids": ids, "durability": "indexed"}))


def points(count: int) -> Iterator[Leg]:
    return iter([Leg(0, 35.0, 135.0 + number / 1000, None, None) for number in range(count)])


def device(lab: Lab, count: int = 20, **changes: Any) -> Device:
    values: dict[str, Any] = {"legs": points(count), "id_prefix": "run", "token": Token("given"), "speed": 0.0}
    plan = Plan(url=lab.url, **(values | changes))
    # A random source whose back-off is always short.
    return Device(plan, SystemClock(), Quick(), Notes())


class Quick(Random):
    def uniform(self, a: float, b: float) -> float:
        return min(b, 0.01)


async def finish(subject: Device) -> None:
    async with asyncio.timeout(20):
        await subject.run()


def say(connection: ServerConnection, **message: object) -> Awaitable[None]:
    return connection.send(json.dumps(message))


async def test_everything_is_sent_once_and_acknowledged() -> None:
    lab = Lab()
    lab.scripts = (lab.acknowledge,)
    async with lab.open():
        subject = device(lab, 1000)
        await finish(subject)
    assert lab.received == [f"run-{number}" for number in range(1000)]
    assert (subject.record.outbox.acked, subject.record.outbox.resent) == (1000, 0)
    assert subject.record.durabilities == {"indexed": 1000}
    assert subject.record.latency.count == 1000


async def test_what_was_not_acknowledged_comes_again_with_the_same_ids() -> None:
    lab = Lab()

    async def vanish(connection: ServerConnection, _: int) -> None:
        async for _ids in lab.events(connection):
            connection.transport.abort()

    lab.scripts = (vanish, vanish, lab.acknowledge)
    async with lab.open():
        subject = device(lab)
        await finish(subject)
    assert set(lab.received) == {f"run-{number}" for number in range(20)}
    assert len(lab.received) > 20
    assert (subject.record.outbox.acked, subject.record.connects) == (20, 3)


async def test_it_keeps_events_while_nobody_listens() -> None:
    lab = Lab()
    lab.scripts = (lab.acknowledge,)
    async with lab.open() as server:
        url = lab.url
        server.close()
        await server.wait_closed()
    notes = asyncio.Event()
    subject = device(lab)
    subject._observer.note = lambda text: notes.set()  # type: ignore[method-assign]
    running = asyncio.create_task(finish(subject))
    async with asyncio.timeout(10):
        await notes.wait()
    assert len(subject.record.outbox) == 20
    port = int(url.rpartition(":")[2].partition("/")[0])
    async with serve(
        lab.handle, "127.0.0.1", port, subprotocols=[Subprotocol("heiwa.v1.json")], process_request=lab.judge
    ):
        await running
    assert subject.record.outbox.acked == 20


async def test_goaway_is_obeyed_after_the_acks_in_flight() -> None:
    lab = Lab()
    left_with: list[int | None] = []

    async def leave(connection: ServerConnection, _: int) -> None:
        async for ids in lab.events(connection):
            await say(connection, type="goaway", reason="drain", reconnect_after_ms=30)
            await say(connection, type="ack", ids=ids, durability="indexed")
            await connection.wait_closed()
            left_with.append(connection.close_code)

    lab.scripts = (leave, lab.acknowledge)
    async with lab.open():
        subject = device(lab, legs=iter([Leg(0, 1, 1, None, None), Leg(300, 1, 1, None, None)]), speed=1.0)
        await finish(subject)
    assert left_with == [1000]
    # Nothing was sent twice: the ack came before it left.
    assert lab.received == ["run-0", "run-1"]
    assert subject.record.connects == 2


async def test_a_server_that_does_not_answer_after_goaway_is_left_all_the_same() -> None:
    lab = Lab()

    async def silent(connection: ServerConnection, _: int) -> None:
        async for _ids in lab.events(connection):
            await say(connection, type="goaway", reason="drain", reconnect_after_ms=0)

    lab.scripts = (silent, lab.acknowledge)
    async with lab.open():
        subject = device(lab, 3)
        await finish(subject)
    assert subject.record.outbox.acked == 3
    assert subject.record.outbox.resent >= 1


async def test_nacks() -> None:
    lab = Lab()
    busy: set[str] = set()

    async def picky(connection: ServerConnection, _: int) -> None:
        async for ids in lab.events(connection):
            for id_ in ids:
                if id_ == "run-1":
                    await say(connection, type="nack", ids=[id_], code="invalid", message="too old - at `$.time`")
                elif id_ == "run-2" and id_ not in busy:
                    busy.add(id_)
                    await say(connection, type="nack", ids=[id_], code="busy", message="later", retry_after_ms=20)
                else:
                    await say(connection, type="ack", ids=[id_], durability="spooled")

    lab.scripts = (picky,)
    async with lab.open():
        subject = device(lab, 4)
        await finish(subject)
    assert lab.received.count("run-2") == 2
    assert (subject.record.outbox.acked, subject.record.outbox.rejected) == (3, 1)
    assert subject.record.refusals == {"invalid": 1}


async def test_replaced_means_never() -> None:
    lab = Lab()

    async def replace(connection: ServerConnection, _: int) -> None:
        await connection.close(4409, "replaced")

    lab.scripts = (replace,)
    async with lab.open():
        subject = device(lab)
        await finish(subject)
    assert "4409" in (subject.record.stopped_by or "")
    assert len(lab.tokens) == 1


def minter() -> Callable[[], Token]:
    made = iter(range(1, 100))
    return lambda: Token(f"made-{next(made)}", 1e12)


async def test_4401_brings_a_new_token_when_it_makes_its_own() -> None:
    lab = Lab()

    async def expire(connection: ServerConnection, _: int) -> None:
        await connection.close(4401, "expired")

    lab.scripts = (expire, lab.acknowledge)
    async with lab.open():
        subject = device(lab, mint=minter())
        await finish(subject)
    assert lab.tokens == ["given", "made-1"]


async def test_a_token_is_renewed_on_the_open_connection() -> None:
    lab = Lab()
    renewed: list[str] = []

    async def watch(connection: ServerConnection, _: int) -> None:
        async for frame in connection:
            message = json.loads(frame)
            if message["type"] == "auth":
                renewed.append(message["token"])
                await say(connection, type="authenticated", expires=2**50)
                await say(connection, type="ack", ids=["run-0"], durability="indexed")

    lab.scripts = (watch,)
    async with lab.open():
        soon_s = SystemClock().time_ms() / 1000 + 0.1
        subject = device(lab, 1, token=Token("given", soon_s), mint=minter())
        await finish(subject)
    assert renewed == ["made-1"]
    assert subject.record.connects == 1


async def test_a_token_that_cannot_be_made_ends_the_device_with_its_cause() -> None:
    lab = Lab()
    lab.scripts = (lab.acknowledge,)

    def broken() -> Token:
        raise SettingsError("auth.secret_file", "gone")

    async with lab.open():
        endless = (Leg(10, 35.0, 135.0, None, None) for _ in iter(int, 1))
        soon_s = SystemClock().time_ms() / 1000 + 0.1
        subject = device(lab, legs=endless, speed=1.0, token=Token("given", soon_s), mint=broken)
        with pytest.raises(SettingsError, match="gone"):
            await finish(subject)


def refusal(status: int, detail: str, **headers: str) -> Response:
    from websockets.datastructures import Headers

    body = json.dumps({"type": "about:blank", "title": "no", "status": status, "detail": detail}).encode()
    fields = Headers({"Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}})
    return Response(status, HTTPStatus(status).phrase, fields, body)


async def test_a_refused_token_is_explained() -> None:
    lab = Lab()
    lab.refusals = [refusal(401, "the token has expired")]
    async with lab.open():
        subject = device(lab)
        await finish(subject)
    assert "the token has expired" in (subject.record.stopped_by or "")
    assert subject.record.connects == 0


async def test_retry_after_of_a_refusal_is_obeyed() -> None:
    lab = Lab()
    lab.scripts = (lab.acknowledge,)
    lab.refusals = [refusal(503, "draining", Retry_After="1")]
    async with lab.open():
        subject = device(lab)
        began_s = SystemClock().monotonic_s()
        await finish(subject)
        elapsed_s = SystemClock().monotonic_s() - began_s
    assert subject.record.outbox.acked == 20
    assert elapsed_s >= 1.0


async def test_stop_sends_what_is_left() -> None:
    lab = Lab()
    lab.scripts = (lab.acknowledge,)
    endless = (Leg(10, 35.0, 135.0, None, None) for _ in iter(int, 1))
    async with lab.open():
        subject = device(lab, legs=endless, speed=1.0)
        running = asyncio.create_task(finish(subject))
        async with asyncio.timeout(10):
            await lab.heard.wait()
        subject.stop()
        await running
    assert len(subject.record.outbox) == 0
    assert subject.record.outbox.acked == subject.record.measured > 0


async def test_stop_is_bounded_when_nobody_acknowledges() -> None:
    lab = Lab()

    async def ignore(connection: ServerConnection, _: int) -> None:
        async for _ids in lab.events(connection):
            subject.stop()

    lab.scripts = (ignore,)
    async with lab.open():
        subject = device(lab, 5, finish_timeout_s=0.1)
        await finish(subject)
    assert len(subject.record.outbox) == 5


@pytest.mark.parametrize("frame", ["nonsense", '{"type":"ack"}', "[]", '{"type":"ack","ids":1}'])
async def test_nonsense_ends_the_connection_and_not_the_device(frame: str) -> None:
    lab = Lab()

    async def babble(connection: ServerConnection, _: int) -> None:
        await connection.send(frame)
        await connection.wait_closed()

    lab.scripts = (babble, lab.acknowledge)
    async with lab.open():
        subject = device(lab, 3)
        await finish(subject)
    assert subject.record.outbox.acked == 3


async def test_unknown_messages_are_ignored() -> None:
    lab = Lab()

    async def chatty(connection: ServerConnection, index: int) -> None:
        await say(connection, type="weather", sun=True)
        await lab.acknowledge(connection, index)

    lab.scripts = (chatty,)
    async with lab.open():
        subject = device(lab, 3)
        await finish(subject)
    assert (subject.record.outbox.acked, subject.record.connects) == (3, 1)
