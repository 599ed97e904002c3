"""Any order of what can happen to a channel: a log subscriber sees each event once and in order, a latest subscriber
ends at the newest value."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.channels import log_feed
from gateway.channels.channel import Channel, Family, Kind
from tests.support.channels import FakeSubscriber, Hall

CLIENTS = 3
WHO = st.integers(0, CLIENTS - 1)
# What makes a story comes more often than what spoils it.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["slow", "wake", "subscribe", "lose", "return", "unsubscribe"]), WHO),
        st.tuples(st.sampled_from(["slow", "wake", "lose", "return"]), WHO),
        st.tuples(st.sampled_from(["append", "append", "append silently", "hint", "poll", "down", "up"]), st.just(0)),
        st.tuples(st.sampled_from(["append", "append silently"]), st.just(0)),
        st.tuples(st.just("turns"), st.integers(1, 12)),
    ),
    min_size=10,
    max_size=60,
)
COUNTS = Family("count", Kind.LATEST, "progress:read")


class Counts:
    """A latest source of whole numbers: the larger is the newer."""

    def __init__(self) -> None:
        self.value = 0

    async def read(self, account: str, subject: str) -> int | None:
        value = self.value
        await asyncio.sleep(0)
        return value

    def merge(self, known: int | None, other: int) -> int:
        return other if known is None or other > known else known

    def show(self, state: int) -> Any:
        return state


class Client:
    """An app that reconnects and resumes as the documentation says; `seen` are the offsets that it was given."""

    def __init__(self, hall: Hall, slot: int) -> None:
        self.hall = hall
        self.slot = slot
        self.seen: list[int] = []
        self.began_at: int | None = None
        self.value: int | None = None
        self.wants = False
        self.connection: FakeSubscriber | None = hall.join(slot)

    def subscribe(self) -> None:
        self.wants = True
        if self.connection is not None:
            last = self.seen[-1] if self.seen else self.began_at
            self.hall.subscribing.subscribe(self.connection, "run:1", last)
            self.hall.subscribing.subscribe(self.connection, "count:1", None)

    def listen(self) -> None:
        for message in self.connection.hear() if self.connection is not None else ():
            if message["type"] == "error":
                assert message["code"] == "unavailable", message
                self.subscribe()
            elif message["channel"] == "count:1":
                self.value = message.get("data", message.get("snapshot"))
            elif message["type"] == "event":
                expected = (self.seen[-1] if self.seen else self.began_at or 0) + 1
                assert message["offset"] == expected, f"{self.slot} got {message['offset']}, not {expected}"
                self.seen.append(message["offset"])
            elif message["type"] == "subscribed" and self.began_at is None:
                self.began_at = message["offset"]


class World:
    def __init__(self) -> None:
        self.hall = Hall()
        self.hall.log.create("acme", "1")
        self.hall.log.before = lambda: asyncio.sleep(0)
        self.counts = Counts()
        self.hall.fanout.offer_latest(COUNTS, self.counts)
        self.clients = [Client(self.hall, slot) for slot in range(CLIENTS)]

    def append(self, *, told: bool) -> None:
        self.hall.log.append("acme", "1", {})
        self.counts.value += 1
        self.hall.fanout.publish(Channel("acme", "count:1"), self.counts.value)
        if told:
            self.hall.fanout.hint(Channel("acme", "run:1"))

    def change(self, what: str, client: Client) -> None:
        hall, connection = self.hall, client.connection
        client.listen()
        if what == "subscribe":
            client.subscribe()
        elif what == "lose" and connection is not None:
            hall.part(connection)
            client.connection = None
        elif what == "return" and connection is None:
            client.connection = hall.join(client.slot)
            if client.wants:
                client.subscribe()
        elif connection is None:
            return
        elif what == "unsubscribe":
            client.wants = False
            hall.subscribing.unsubscribe(connection, "run:1")
            hall.subscribing.unsubscribe(connection, "count:1")
        elif what == "slow":
            connection.slow = True
        elif what == "wake":
            hall.wake(connection)

    async def step(self, what: str, number: int) -> None:
        if what.startswith("append"):
            self.append(told=what == "append")
        elif what == "hint":
            self.hall.fanout.heard(Channel("acme", "run:1"))
        elif what == "poll":
            await self.hall.fanout.poll()
        elif what in ("down", "up"):
            self.hall.log.down = what == "down"
        elif what == "turns":
            for _ in range(number):
                await asyncio.sleep(0)
        else:
            self.change(what, self.clients[number])

    async def end(self) -> None:
        """Everything is well again, and everyone comes back."""
        self.hall.log.down = False
        for client in self.clients:
            self.change("return", client)
            self.change("wake", client)
        for _ in range(4):
            await self.hall.settle()
            await self.hall.fanout.poll()
            for client in self.clients:
                client.listen()


def _check(world: World) -> None:
    newest = world.hall.log.newest_of("acme", "1")
    for client in world.clients:
        if client.wants:
            last = client.seen[-1] if client.seen else client.began_at
            assert last == newest, f"{client.slot} ended at {last}, and the log at {newest}"
            assert client.value == world.counts.value


@settings(max_examples=250, deadline=None)
@given(subscribed=st.integers(0, CLIENTS), steps=STEPS)
def test_any_order_of_events(subscribed: int, steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        world = World()
        for client in world.clients[:subscribed]:
            client.subscribe()
        for what, number in steps:
            await world.step(what, number)
        await world.end()
        _check(world)
        await world.hall.fanout.close()

    pages = log_feed.PAGE_EVENTS
    log_feed.PAGE_EVENTS = 2
    try:
        asyncio.run(play())
    finally:
        log_feed.PAGE_EVENTS = pages
