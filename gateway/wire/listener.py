"""Listening sockets with the options that accepted ones inherit, so that a connection needs no system call for them."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import ListenError, SettingsError
from gateway.settings.model import Listen

# Linux; socket.TCP_USER_TIMEOUT exists there only.
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class SocketOptions(NamedTuple):
    """`send_buffer_bytes` 0 leaves the kernel's choice. `user_timeout_ms`: unacknowledged data ends a connection."""

    backlog: int
    reuse_port: bool = False
    send_buffer_bytes: int = 0
    user_timeout_ms: int = 0


def parse_addresses(key: str, text: str) -> list[Address]:
    """`host:port` or `[v6]:port`, several separated by commas. Raises SettingsError for `key`."""
    addresses = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        host, separator, port = part.rpartition(":")
        if not separator or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65_535:
            raise SettingsError(key, f"{part!r} is not host:port with a port from 0 to 65535")
        addresses.append(Address(host.strip("[]") or "0.0.0.0", int(port)))  # noqa: S104 - ":8080" asks for it
    if not addresses:
        raise SettingsError(key, "at least one host:port is needed")
    return addresses


def local_address(key: str, text: str, option: str) -> Address:
    """The first of these addresses as seen from this machine. Raises SettingsError for port 0: use `option`."""
    address = parse_addresses(key, text)[0]
    if address.port == 0:
        raise SettingsError(option, f"is needed: {key} has port 0, and `heiwa serve` printed the one it picked")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    return Address(host, address.port)


def open_socket(key: str, address: Address, options: SocketOptions) -> socket.socket:
    """A bound socket. Raises ListenError saying what holds the port."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(key, f"{address.host}: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if options.reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if options.send_buffer_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer_bytes)
        if options.user_timeout_ms:
            listener.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, options.user_timeout_ms)
        listener.setblocking(False)
        listener.bind(target)
    except OSError as error:
        listener.close()
        hint = f"; another program listens there (see: ss -ltnp 'sport = :{address.port}')" if error.errno == 98 else ""
        raise ListenError(f"{key}: cannot listen on {address}: {os.strerror(error.errno or 0)}{hint}") from error
    return listener


async def listen(
    listener: socket.socket, factory: Callable[[], asyncio.BaseProtocol], options: SocketOptions
) -> asyncio.AbstractServer:
    """Accept connections on a bound socket. Raises ListenError: another program was faster."""
    try:
        listener.listen(options.backlog)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise ListenError(f"cannot listen on {Address(host, port)}: {os.strerror(error.errno or 0)}") from error
    return await asyncio.get_running_loop().create_server(factory, sock=listener, backlog=options.backlog)


def tls_context(settings: Listen) -> ssl.SSLContext | None:
    """The server's TLS context; None without a certificate. Raises SettingsError."""
    if not settings.tls_certificate_file:
        if settings.tls_key_file:
            raise SettingsError("listen.tls_certificate_file", "a key is set but no certificate")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file or None, _no_password)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError("listen.tls_certificate_file", f"cannot load certificate and key: {error}") from error
    return context


def _no_password() -> str:
    # Without a callback OpenSSL would ask on the terminal and the start would hang.
    raise SettingsError("listen.tls_key_file", "the key is encrypted; store it without a password, readable by us only")
