"""Gateways without sockets that share an exchange in memory: connections on fake transports, commands, directory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from gateway.adapters.memory.attempts import MemoryAttempts
from gateway.adapters.memory.exchange import Exchange, MemoryBroker, MemoryDirectory
from gateway.app.peering import Peering, courier
from gateway.app.tasks import Tasks
from gateway.channels.channel import device_channel
from gateway.channels.commands import Settled
from gateway.channels.device_channel import DeviceChannel
from gateway.channels.fanout import Fanout
from gateway.channels.local import LocalCourier
from gateway.connections.connection import Connection
from gateway.locations.event import LocationEvent
from gateway.locations.query import Found
from gateway.protocol.channel_messages import ChannelMessages
from gateway.protocol.session import command_message
from tests.support.bench import Bench, Recording, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import CLOSE, server_frames

DEADLINE_S = 10.0
RECEIVES = ("location:write", "command:receive")


class Telling(Recording):
    """Says when a connection ended, as the real session does."""

    def __init__(self) -> None:
        super().__init__(echo=False)

    def opened(self, connection: Connection) -> None:
        super().opened(connection)
        self.devices.connection_changed(connection.account_name, connection.device, connection.slot)

    def closed(self, connection: Connection) -> None:
        super().closed(connection)
        self.local.closed(connection)
        self.devices.connection_changed(connection.account_name, connection.device, connection.slot)

    local: LocalCourier
    devices: DeviceChannel


class Places:
    """An index without anything in it."""

    async def latest(self, account: str, device: str) -> Found | None:
        return None


class Member:
    """A device's connection to one of the gateways."""

    def __init__(self, gateway: FakeGateway, connection: Connection, transport: FakeTransport) -> None:
        self.gateway = gateway
        self.connection = connection
        self.transport = transport

    def heard(self) -> list[Any]:
        """Messages, and the codes of close frames."""
        return [
            frame.close_code if frame.opcode == CLOSE else msgspec.json.decode(frame.payload)
            for frame in server_frames(self.transport.take())
        ]

    async def told(self, check: Callable[[Any], bool]) -> Any:
        """The next data, of a snapshot or an event, that fits."""
        found: list[Any] = []

        def came() -> bool:
            said = [message for message in self.heard() if isinstance(message, dict)]
            found.extend(message.get("data") or message.get("snapshot") for message in said)
            return any(check(data) for data in found if data)

        await until(came)
        return next(data for data in found if data and check(data))

    async def command(self) -> dict[str, Any]:
        """The next command that it is sent."""
        found: list[Any] = []

        def came() -> bool:
            found.extend(message for message in self.heard() if isinstance(message, dict))
            return any(message["type"] == "command" for message in found)

        await until(came)
        (command,) = [message for message in found if message["type"] == "command"]
        return dict(command)

    def answer(self, command: str, settled: Settled) -> None:
        self.gateway.local.result(self.connection, command, settled)


class FakeGateway:
    """One gateway of several."""

    def __init__(self, name: str, exchange: Exchange, tasks: Tasks, *flags: str) -> None:
        session = Telling()
        self.name = name
        self.bench = Bench(*flags, session=session)
        # Which of two connections is the newer is told by their age on this clock.
        hub = self.bench.hub
        chance = random.Random(1)
        self.local = session.local = LocalCourier(hub.registry, self.bench.clock, chance, 16, command_message)
        broker, directory = MemoryBroker(exchange, name), MemoryDirectory(exchange, name)
        self.peering = Peering(hub, self.local, broker, directory, MemoryAttempts(exchange.clock))
        self.courier = courier(hub, self.local, self.peering, chance)
        self.fanout = Fanout(hub.holders, ChannelMessages(), self.bench.clock, self.peering.channels)
        self.places = Places()
        self.devices = session.devices = DeviceChannel(hub.registry, self.places, self.fanout, self.peering.channels)
        self.peering.join_channels(self.fanout, self.devices)

    def join(self, name: str = "lamp", device_class: str = "", *scopes: str) -> Member:
        return Member(self, *self.bench.open(device(name, "acme", *(scopes or RECEIVES), device_class=device_class)))

    def watch(self, watcher: Member, name: str = "lamp") -> None:
        self.fanout.subscribe(watcher.connection, device_channel("acme", name), None)

    def moved(self, time: int, name: str = "lamp", lat: float = 1.0) -> None:
        """A position of the device is durable."""
        self.devices.moved("acme", name, [LocationEvent("e", time, lat, 2.0)])

    def begin(self, name: str = "lamp", deadline_ms: int = 5000, **options: Any) -> asyncio.Task[Settled]:
        sending = self.courier.send("acme", name, "switch", {"on": True}, deadline_ms, **options)
        return asyncio.create_task(sending, name="command")


class FakeFleet:
    """`async with FakeFleet("one", "two") as (one, two)`; `flags` are settings of all."""

    def __init__(self, *names: str, clock: Any, flags: tuple[str, ...] = ()) -> None:
        self.exchange = Exchange(clock)
        self.tasks = Tasks()
        self.stack = AsyncExitStack()
        self.gateways = [FakeGateway(name, self.exchange, self.tasks, *flags) for name in names]

    async def __aenter__(self) -> list[FakeGateway]:
        self.stack.push_async_callback(self.tasks.close)
        for gateway in self.gateways:
            gateway.peering.start(self.tasks, self.stack)
            self.stack.push_async_callback(gateway.fanout.close)
        await until(lambda: len(self.exchange.leases_s) == len(self.gateways))
        return self.gateways

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    def held_by(self, name: str = "lamp") -> str | None:
        """The gateway that the directory names."""
        row = self.exchange.rows.get(("acme", name))
        return None if row is None or row.holder is None else row.holder.gateway


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not check():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
