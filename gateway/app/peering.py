"""What connects this gateway to others: only where a broker is set, and loaded only then."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import TYPE_CHECKING

from gateway.adapters.memory.attempts import MemoryAttempts
from gateway.app.tasks import Tasks
from gateway.channels.announcing import Announcer
from gateway.channels.channel import DEVICE, DRAIN
from gateway.channels.courier import Courier
from gateway.channels.device_channel import DeviceChannel
from gateway.channels.device_state import DeviceState, merged
from gateway.channels.devices import FleetDevices, LocalDevices
from gateway.channels.fanout import Fanout
from gateway.channels.fleet import Fleet
from gateway.channels.local import LocalCourier
from gateway.channels.peer_channels import PeerChannels, Shape
from gateway.channels.peer_metrics import PeerMetrics
from gateway.channels.peers import Peers
from gateway.channels.ports import Attempts, Broker, Directory
from gateway.channels.remote import RemoteCourier
from gateway.connections.hub import Hub
from gateway.drain import figures
from gateway.errors import SettingsError
from gateway.settings.model import Broker as BrokerSettings

if TYPE_CHECKING:
    from gateway.adapters.redis.access import Access


def gateway_name() -> str:
    """What others call this process: its machine, and a part that no other process has, this one after a restart
    included."""
    return f"{socket.gethostname()[:64]}.{token_hex(4)}"


class Peering:
    """`start` begins; the stack ends it, after the connections."""

    def __init__(self, hub: Hub, local: LocalCourier, broker: Broker, directory: Directory, attempts: Attempts) -> None:
        self._hub = hub
        self._broker = broker
        self.attempts = attempts
        self.directory = directory
        self.peers = Peers(broker)
        self.announcer = Announcer(hub, self.peers, directory)
        self.fleet = Fleet(self.peers, directory)
        self.devices = FleetDevices(LocalDevices(hub.registry), self.fleet)
        self.remote = RemoteCourier(local, self.peers, directory, self.announcer)
        self.announcer.emptied = self.returned
        self.channels = PeerChannels(self.peers, directory, self.announcer)
        self.channels.offer(DEVICE.name, Shape(DeviceState, merged))
        self.channels.offer(DRAIN.name, Shape(figures.Frames, figures.merged))
        self._doubt: Callable[[], None] = lambda: None
        self.metrics = PeerMetrics(self.peers, self.announcer)

    def start(self, tasks: Tasks, stack: AsyncExitStack) -> None:
        """Before the first connection."""
        self._hub.registry.followers += (self.announcer,)
        self._broker.listen(self.peers.receive, self.returned)
        stack.push_async_callback(self._broker.close)
        tasks.spawn("broker", self._broker.run())
        tasks.spawn("directory", self.announcer.run())
        tasks.spawn("peer channels", self.channels.run())
        stack.push_async_callback(self.peers.close)
        stack.push_async_callback(self.announcer.leave)

    def join_channels(self, fanout: Fanout, devices: DeviceChannel) -> None:
        """What happens to channels elsewhere reaches this fan-out, and the other way round."""
        self.channels.receive, self.channels.heard = fanout.receive, fanout.heard
        self.channels.here, self.channels.numbered = devices.here, devices.connection_changed
        self.channels.remind, self._doubt, self.announcer.gone = fanout.remind, fanout.doubt, fanout.doubt_states

    def returned(self) -> None:
        """The way to the others is open, at first or again, or the directory is empty: announce and read everything."""
        self.peers.returns += 1
        self.announcer.returned()
        self._doubt()


def peering(settings: BrokerSettings, hub: Hub, local: LocalCourier, chance: Random) -> Peering | None:
    """None: this is the only gateway. Raises SettingsError."""
    if not settings.url:
        return None
    from gateway.adapters.redis.broker import RedisAttempts, RedisBroker
    from gateway.adapters.redis.directory import RedisDirectory
    from gateway.adapters.redis.link import Link

    link = Link(broker_access(settings), hub.gateway, chance)
    return Peering(hub, local, RedisBroker(link), RedisDirectory(link), RedisAttempts(link))


def broker_access(settings: BrokerSettings) -> Access:
    """How to reach the broker. Raises SettingsError."""
    from gateway.adapters.redis.access import Access, pool_of

    password = settings.password
    if settings.password_file:
        try:
            password = Path(settings.password_file).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError("broker.password_file", f"cannot be read: {error}") from error
    if settings.user and not password:
        raise SettingsError("broker.user", "a user without a password; set broker.password or broker.password_file")
    access = Access(settings.url, settings.user, password, settings.ca_file, settings.prefix)
    pool_of(access)
    return access


def courier(hub: Hub, local: LocalCourier, peering: Peering | None, chance: Random) -> Courier:
    """What carries commands to devices, here and elsewhere."""
    if peering is None:
        return Courier(local, None, hub.registry, chance, MemoryAttempts(hub.clock))
    return Courier(local, peering.remote, hub.registry, chance, peering.attempts)


def devices(hub: Hub, peering: Peering | None) -> LocalDevices | FleetDevices:
    """What is known of devices, here and elsewhere."""
    return LocalDevices(hub.registry) if peering is None else peering.devices
