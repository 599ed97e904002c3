"""How to reach Redis or Valkey, and what its errors mean."""

from __future__ import annotations

import ssl
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.adapters.hosts import is_local
from gateway.errors import SettingsError

KEY = "broker.url"
DEFAULT_PORT = 6379
CONNECT_TIMEOUT_S = 1.0
# Longer than a healthy server ever needs, and short enough that a hung one is noticed before people are.
ANSWER_TIMEOUT_S = 2.0
# After one of these nothing more is to be expected of a connection. A replica is what a failed primary comes back as.
LOST = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError)


class Access(NamedTuple):
    """The settings of the section `broker`; `password` comes from the environment or a file, never from `url`."""

    url: str
    user: str = ""
    password: str = ""
    ca_file: str = ""
    prefix: str = "heiwa"

    def key(self, *names: str) -> str:
        """A key, or a channel. All of them are in one slot of a cluster, so that one script may use several."""
        return ":".join((f"{{{self.prefix}}}", *names))


class Address(NamedTuple):
    """`path` is that of a socket of this machine; "": `host` and `port` count. `tls`: it is a rediss address."""

    host: str
    port: int
    path: str
    database: int
    tls: bool

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def address_of(access: Access) -> Address:
    """Raises SettingsError."""
    try:
        parts = urlsplit(access.url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError as error:
        raise SettingsError(KEY, f"not an address: {error}") from error
    socket = parts.scheme == "unix" and parts.path.startswith("/")
    if parts.scheme not in ("redis", "rediss", "unix") or not (host or socket):
        raise SettingsError(KEY, "must be an address as redis://host:6379, rediss://host:6379 (TLS) or unix:///path")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(KEY, "must hold no user or password; set broker.user and broker.password(_file)")
    if parts.query or parts.fragment:
        raise SettingsError(KEY, "must hold neither a query nor a fragment")
    if access.password and parts.scheme == "redis" and not is_local(host):
        raise SettingsError(KEY, "must be rediss: a password would cross the network in clear")
    database = "" if socket else parts.path.strip("/")
    if database and not (database.isascii() and database.isdigit()):
        raise SettingsError(KEY, f"{database!r} is no number of a database; write redis://host:6379/0")
    return Address(host, port, parts.path if socket else "", int(database or 0), parts.scheme == "rediss")


def pool_of(access: Access) -> ConnectionPool:
    """A pool of connections that never repeat a command. Raises SettingsError."""
    address = address_of(access)
    options: dict[str, Any] = {
        "username": access.user or None,
        "password": access.password or None,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": ANSWER_TIMEOUT_S,
        "protocol": 2,
    }
    if address.path:
        return ConnectionPool(UnixDomainSocketConnection, path=address.path, **options)
    options |= {
        "host": address.host,
        "port": address.port,
        "db": address.database,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
    }
    if not address.tls:
        return ConnectionPool(Connection, **options)
    try:
        ssl.create_default_context(cafile=access.ca_file or None)
    except (OSError, ValueError) as error:
        raise SettingsError("broker.ca_file", f"cannot be used: {error}") from error
    return ConnectionPool(SSLConnection, ssl_ca_certs=access.ca_file or None, **options)


def told(address: Address, error: BaseException) -> str:
    """What went wrong, for people."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return f"{address} does not answer"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError):
        return f"{address}: TLS failed: {getattr(cause, 'verify_message', '') or cause.reason or cause}"
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, RedisError) and said.startswith("Error ") and "connecting to" in said:
        return f"{address} cannot be reached"
    return f"{address}: {said or type(error).__name__}"
