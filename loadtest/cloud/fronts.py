"""What devices connect to in a deploy, and who carries out what the load balancer decides: the fleet, or a HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from gateway.errors import SettingsError
from loadtest.cloud import haproxy
from loadtest.cloud.haproxy import Haproxy, ServerState
from loadtest.fleet.commands import Command, CutTargetCommand, TargetsCommand
from loadtest.scenario.deploy import DeploySection

TellFleets = Callable[[Command], Awaitable[None]]
# As the gateways see it.
HAPROXY_NETWORK = "127.0.0.1/32"


class Front(Protocol):
    """Targets are the URLs of gateways. Every call may raise HeiwaError."""

    settings: Mapping[str, object]
    """What gateways behind it must be told."""

    async def open(self) -> None:
        """Ready for devices."""

    async def close(self) -> None:
        """No more devices; harmless when it was never open."""

    def urls(self, targets: Sequence[str]) -> list[str]:
        """Where devices connect, while these targets get traffic."""

    async def aim(self, targets: Sequence[str]) -> None:
        """These targets get new connections from now on, and no others."""

    async def cut(self, target: str) -> None:
        """End what is connected to a target."""


class FleetFront:
    """Devices connect to the gateways themselves, as the fleet is told: for any number of them."""

    def __init__(self, tell: TellFleets) -> None:
        self.settings: Mapping[str, object] = {}
        self._tell = tell

    async def open(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """There is nothing to close."""

    def urls(self, targets: Sequence[str]) -> list[str]:
        """The targets."""
        return list(targets)

    async def aim(self, targets: Sequence[str]) -> None:
        """Tell the fleet."""
        await self._tell(TargetsCommand(list(targets)))

    async def cut(self, target: str) -> None:
        """Have the fleet end them, as if the other side had."""
        await self._tell(CutTargetCommand(target, "fin"))


class HaproxyFront:
    """Devices connect to HAProxy's one address, and it to the gateways: the truth, for 9,000 at most."""

    def __init__(self, proxy: Haproxy) -> None:
        self.settings: Mapping[str, object] = {"listen.trusted_proxies": HAPROXY_NETWORK}
        self._proxy = proxy
        self._path = "/ws"
        self._states: dict[str, ServerState] = {}
        # News may come while the last is still being carried out; the newest must have the last word.
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Start it."""
        await self._proxy.start()

    async def close(self) -> None:
        """Stop it."""
        await self._proxy.stop()

    def urls(self, targets: Sequence[str]) -> list[str]:
        """The same whatever the targets."""
        return [f"ws://127.0.0.1:{self._proxy.port}{self._path}"]

    async def aim(self, targets: Sequence[str]) -> None:
        """What is new is added; what is not among the targets any more keeps its connections."""
        async with self._turn:
            for target in targets:
                if target not in self._states:
                    await self._add(target)
            # First who takes traffic, then who does not: otherwise there is nobody for a moment.
            for target in targets:
                await self._set(target, "ready")
            for target in self._states.keys() - set(targets):
                await self._set(target, "drain")

    async def cut(self, target: str) -> None:
        """Nothing, when it never got traffic."""
        if target in self._states:
            await self._proxy.shutdown_sessions(_server(target))

    async def _add(self, target: str) -> None:
        split = urlsplit(target)
        if split.scheme != "ws" or split.hostname is None or split.port is None:
            raise SettingsError("deploy.balancer", f"HAProxy is set up for gateways without TLS, not for {target}")
        await self._proxy.add(_server(target), split.hostname, split.port)
        self._path = split.path or "/"
        self._states[target] = "maint"

    async def _set(self, target: str, state: ServerState) -> None:
        if self._states[target] != state:
            await self._proxy.set_state(_server(target), state)
            self._states[target] = state


def check(options: DeploySection | None, devices: int, file_limit: int) -> None:
    """Whether the load balancer of a deploy takes so many devices. Raises SettingsError saying why not."""
    if options is not None and options.balancer == "haproxy":
        haproxy.check(devices, file_limit)


def make(options: DeploySection, folder: Path, tell: TellFleets) -> Front:
    """The one that the scenario asks for; `folder` is for its files, `tell` commands the fleet."""
    if options.balancer == "fleet":
        return FleetFront(tell)
    return HaproxyFront(Haproxy(folder, "leastconn" if options.routing == "least_outstanding" else "roundrobin"))


def _server(target: str) -> str:
    return urlsplit(target).netloc.replace(":", "_")
