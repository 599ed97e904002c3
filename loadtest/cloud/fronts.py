"""What devices connect to in a deploy, and what carries out the load balancer's decisions: the fleet, or HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from gateway.errors import SettingsError
from loadtest.cloud import haproxy
from loadtest.cloud.haproxy import Haproxy, ServerState
from loadtest.fleet.commands import CutTargetCommand, FleetCommand, TargetsCommand
from loadtest.scenario.deploy import DeploySection

TellFleets = Callable[[FleetCommand], Awaitable[None]]
# As the gateways see it.
HAPROXY_NETWORK = "127.0.0.1/32"


class Front(Protocol):
    """Targets are the URLs of gateways. Every call may raise HeiwaError."""

    settings: Mapping[str, object]
    """Settings that gateways behind it need."""

    async def open(self) -> None:
        """Get ready for devices."""

    async def close(self) -> None:
        """Take no more devices; harmless when it was never open."""

    def urls(self, targets: Sequence[str]) -> list[str]:
        """Where devices connect while these targets get traffic."""

    async def aim(self, targets: Sequence[str]) -> None:
        """Give new connections to these targets only, from now on."""

    async def weigh(self, targets: list[str], weights: list[float]) -> None:
        """As `aim`, and each target gets its part of new connections."""

    async def cut(self, target: str) -> None:
        """End the connections to a target."""


class FleetFront:
    """Devices connect to the gateways directly, as the fleet is told: for any number of devices."""

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

    async def weigh(self, targets: list[str], weights: list[float]) -> None:
        """Tell the fleet, too."""
        await self._tell(TargetsCommand(targets, weights))

    async def cut(self, target: str) -> None:
        """Have the fleet end them, as if the other side had done it."""
        await self._tell(CutTargetCommand(target, "fin"))


class HaproxyFront:
    """Devices connect to HAProxy, and it to the gateways: a real load balancer, for up to 9,000 devices."""

    def __init__(self, proxy: Haproxy) -> None:
        self.settings: Mapping[str, object] = {"listen.trusted_proxies": HAPROXY_NETWORK}
        self._proxy = proxy
        self._path = "/ws"
        self._states: dict[str, ServerState] = {}
        # News may come while the previous news is being carried out; the newest must come last.
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Start it."""
        await self._proxy.start()

    async def close(self) -> None:
        """Stop it."""
        await self._proxy.stop()

    def urls(self, targets: Sequence[str]) -> list[str]:
        """HAProxy's address, whatever the targets."""
        return [f"ws://127.0.0.1:{self._proxy.port}{self._path}"]

    async def aim(self, targets: Sequence[str]) -> None:
        """Add new targets. Those that are no targets any more keep their connections."""
        async with self._turn:
            for target in targets:
                if target not in self._states:
                    await self._add(target)
            # First enable, then drain: otherwise there would be no target for a moment.
            for target in targets:
                await self._set(target, "ready")
            for target in self._states.keys() - set(targets):
                await self._set(target, "drain")

    async def weigh(self, targets: list[str], weights: list[float]) -> None:
        """A scenario with weights is for the fleet alone (DeploySection.check)."""
        raise SettingsError("deploy.balancer", "HAProxy is not set up for weights here")

    async def cut(self, target: str) -> None:
        """End the connections to a target; nothing happens if it never got traffic."""
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
    """Check that the load balancer of a deploy can take this number of devices. Raises SettingsError saying why not."""
    if options is not None and options.balancer == "haproxy":
        haproxy.check(devices, file_limit)


def make(options: DeploySection, folder: Path, tell: TellFleets) -> Front:
    """The front that the scenario asks for; `folder` is for its files, `tell` commands the fleet."""
    if options.balancer == "fleet":
        return FleetFront(tell)
    return HaproxyFront(Haproxy(folder, "leastconn" if options.routing == "least_outstanding" else "roundrobin"))


def _server(target: str) -> str:
    return urlsplit(target).netloc.replace(":", "_")
