"""Opens connections: chooses the target, the source address and the token of each."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.errors import SettingsError
from gateway.identity.token import mint
from loadtest.fleet.device import REFUSED, DeviceConnection, request
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.routing import Routing
from loadtest.fleet.targets import WebsocketTarget, target
from loadtest.scenario.client_models import CLIENT_MODELS

IP_BIND_ADDRESS_NO_PORT = 24  # Linux, ip(7); the socket module names it from Python 3.12 on

OnFailed = Callable[[DeviceConnection, OSError | None], None]


class Connector:
    """`tokens` are by slot; empty: tokens are made from the secret.

    `recorded_classes` are the device classes of a recording, by slot; others have the class of their client model.
    """

    def __init__(self, options: FleetOptions, tokens: Sequence[str] = ()) -> None:
        self.targets: list[WebsocketTarget] = []
        self._routing = Routing(options.routing, options.first)
        self._client_models = [CLIENT_MODELS[name] for name in options.client_models]
        self.recorded_classes: Mapping[int, str] = {}
        self._options = options
        self._tokens = tokens
        self._secret = options.secret.encode()
        self._sources = options.source_addresses
        self._tls: ssl.SSLContext | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self.aim(options.urls)

    def aim(self, urls: Sequence[str], weights: Sequence[float] = ()) -> None:
        """Set the targets of the next connects; without a target each is refused with 503. Raises SettingsError."""
        if not urls and self._options.routing == "fixed":
            raise SettingsError("urls", "there must be at least one target")
        found = [target(url) for url in urls]
        current = []
        for one in found:
            if one not in self.targets:
                self.targets.append(one)
            current.append(self.targets.index(one))
            if one.tls and self._tls is None:
                self._tls = _context(self._options.tls_ca_file)
        if weights and len(weights) != len(urls):
            raise SettingsError("weights", f"{len(weights)} of them for {len(urls)} targets")
        self._routing.aim(current, weights)

    def target_of(self, slot: int) -> int | None:
        """The index in `targets` of the target that a device connects to next; None: there is none.

        It counts as a connection of that target until `left` is called.
        """
        return self._routing.choose(slot)

    def left(self, index: int) -> None:
        """A connection to target `index`, or the attempt at one, is over."""
        self._routing.left(index)

    def token(self, slot: int, name: str = "") -> str:
        """A token for the device of a slot, or for the device `name`."""
        if self._tokens:
            return self._tokens[slot]
        options = self._options
        claims = {
            "sub": name or options.name(slot),
            "account": options.account,
            "scope": options.scope,
            "exp": int(time.time() + options.token_ttl_s),
        }
        device_class = self.recorded_classes.get(slot) or self._client_models[options.client_model(slot)].device_class
        if device_class:
            claims["class"] = device_class
        return mint(claims, self._secret)

    def request(self, slot: int, index: int, name: str = "") -> bytes:
        """The opening request to target `index`."""
        one = self.targets[index]
        host = f"[{one.host}]" if ":" in one.host else one.host
        client_model = self._client_models[self._options.client_model(slot)]
        subprotocol = self._options.subprotocol if client_model.subprotocol is None else client_model.subprotocol
        return request(one.path, f"{host}:{one.port}", self.token(slot, name), subprotocol, client_model.header)

    def tls_of(self, one: WebsocketTarget) -> ssl.SSLContext | None:
        return self._tls if one.tls else None

    def open(self, device: DeviceConnection, index: int, on_failed: OnFailed) -> None:
        """Connect; `on_failed` is called when that fails."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._open(device, self.targets[index], on_failed))
        self._running[device.slot] = task

    def cancel(self, slot: int) -> bool:
        """Cancel an attempt to connect; whether there was one."""
        task = self._running.get(slot)
        return task is not None and task.cancel()

    async def _open(self, device: DeviceConnection, one: WebsocketTarget, on_failed: OnFailed) -> None:
        source = self._source(device.slot, one)
        error: OSError | None = None
        loop = asyncio.get_running_loop()
        tls, name = self.tls_of(one), one.host if one.tls else None
        try:
            if source:
                bound = await _connect_from(source, one)
                await loop.create_connection(lambda: device, sock=bound, ssl=tls, server_hostname=name)
            else:
                await loop.create_connection(lambda: device, one.host, one.port, ssl=tls, server_hostname=name)
        except OSError as caught:
            error = caught
        except asyncio.CancelledError:
            error = TimeoutError("no connection in time")
        finally:
            del self._running[device.slot]
        # A connection that was made and lost at once has called its owner itself.
        if error is not None and device.transport is None and device.state != REFUSED:
            device.state = REFUSED
            on_failed(device, error)

    def _source(self, slot: int, one: WebsocketTarget) -> str:
        if not self._sources or not one.loopback:
            return ""
        return self._sources[(self._options.first + slot) % len(self._sources)]


async def _connect_from(source: str, one: WebsocketTarget) -> socket.socket:
    """A connected socket with the source address `source`. Raises OSError; when cancelled, nothing is left open."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        # connect chooses a port that is free for this peer. Without this option bind looks for one that is free for all
        # peers: 2 ms a connect, and all of both cores once tens of thousands are open.
        made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(made, (one.host, one.port))
    except BaseException:
        made.close()
        raise
    return made


def _context(ca_file: str) -> ssl.SSLContext:
    if ca_file and not Path(ca_file).is_file():
        raise SettingsError("tls_ca_file", f"there is no file {ca_file}")
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except ssl.SSLError as error:
        raise SettingsError("tls_ca_file", f"{ca_file} is not a PEM certificate: {error}") from error
