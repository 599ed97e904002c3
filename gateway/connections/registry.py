"""Who is connected: accounts, their devices, and how the last connection of each ended.

An account sees only its own devices: nothing here is looked up without one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol
from weakref import WeakValueDictionary

from gateway.connections.ending import OPERATOR, Cause
from gateway.connections.info import ConnectionInfo, DisconnectInfo
from gateway.identity.identity import Identity

EXCLUSIVE_SCOPES = frozenset({"location:write", "command:receive", "admin"})
_MAX_LAST_DISCONNECTS = 10_000


class Member(Protocol):
    """A connection as the registry knows it."""

    @property
    def profile(self) -> Profile: ...

    @property
    def device(self) -> str: ...

    @property
    def slot(self) -> int: ...

    @property
    def stays(self) -> bool:
        """Whether nobody has asked it to leave, and it is not ending."""

    @property
    def greets(self) -> bool:
        """Whether its first message is still to be sent."""

    @property
    def max_payload_bytes(self) -> int:
        """The largest message that it can read."""

    def send(self, payload: bytes) -> None:
        """Send a text message."""

    def expect(self, answers: int) -> None:
        """This much work is under way; a planned close waits a moment for it."""

    def answer(self, payloads: Iterable[bytes], answers: int) -> None:
        """This much of it is done; send these messages."""

    def describe(self) -> ConnectionInfo:
        """What the API shows of it."""

    def position(self) -> dict[str, Any] | None:
        """The latest position that it sent and got acknowledged; None: none yet."""

    def leave(self, cause: Cause, *, code: int = 0, words: str = "") -> None:
        """Begin a planned close."""


class Follower(Protocol):
    """Is told who comes and goes, on the loop's thread; must not raise."""

    def joined(self, member: Member) -> None:
        """It is open."""

    def changed(self, member: Member) -> None:
        """A new token lets it do other things than before."""

    def left(self, member: Member, ended: DisconnectInfo) -> None:
        """It has ended; its slot is still its own."""


class Account:
    """One tenant while it has connections. A device has one connection, or several where duplicates are allowed."""

    __slots__ = ("__weakref__", "connected", "devices", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.connected = 0
        self.devices: dict[str, Member | list[Member]] = {}

    def of(self, device: str) -> list[Member]:
        """The connections of a device, the newest last."""
        found = self.devices.get(device)
        if found is None:
            return []
        return found if isinstance(found, list) else [found]


class Profile:
    """What many connections have in common and share as one object: account, scopes, class."""

    __slots__ = ("__weakref__", "account", "device_class", "exclusive", "may_receive", "may_write", "scopes")

    def __init__(self, account: Account, identity: Identity) -> None:
        self.account = account
        self.scopes = identity.scopes
        self.device_class = identity.device_class
        self.may_write = identity.may("location:write")
        self.may_receive = identity.may("command:receive")
        self.exclusive = not EXCLUSIVE_SCOPES.isdisjoint(identity.scopes)


class Registry:
    """All open connections, by account and device."""

    def __init__(self) -> None:
        self.total = 0
        # Weak: an account and a profile live exactly as long as a connection refers to them.
        self._accounts: WeakValueDictionary[str, Account] = WeakValueDictionary()
        self._profiles: WeakValueDictionary[tuple[str, frozenset[str], str], Profile] = WeakValueDictionary()
        self._last: OrderedDict[tuple[str, str], DisconnectInfo] = OrderedDict()
        self.followers: tuple[Follower, ...] = ()

    def profile(self, identity: Identity) -> Profile:
        """The shared profile of this identity."""
        key = (identity.account, identity.scopes, identity.device_class)
        profile = self._profiles.get(key)
        if profile is None:
            account = self._accounts.get(identity.account)
            if account is None:
                account = self._accounts[identity.account] = Account(identity.account)
            profile = self._profiles[key] = Profile(account, identity)
        return profile

    def connected(self, account: str) -> int:
        """How many connections the account has."""
        found = self._accounts.get(account)
        return found.connected if found else 0

    def rivals(self, account: str, device: str) -> list[Member]:
        """Open connections of the device that only one may have at a time."""
        found = self._accounts.get(account)
        return [rival for rival in found.of(device) if rival.profile.exclusive] if found else []

    def add(self, connection: Member) -> None:
        """The connection is open."""
        account = connection.profile.account
        account.connected += 1
        self.total += 1
        others = account.of(connection.device)
        account.devices[connection.device] = [*others, connection] if others else connection
        for follower in self.followers:
            follower.joined(connection)

    def changed(self, connection: Member) -> None:
        """It has another profile."""
        for follower in self.followers:
            follower.changed(connection)

    def remove(self, connection: Member, ended: DisconnectInfo) -> None:
        """The connection ended; how is kept for the device's page."""
        account = connection.profile.account
        account.connected -= 1
        self.total -= 1
        others = [other for other in account.of(connection.device) if other is not connection]
        if not others:
            account.devices.pop(connection.device, None)
        else:
            account.devices[connection.device] = others if len(others) > 1 else others[0]
        key = (account.name, connection.device)
        self._last.pop(key, None)
        self._last[key] = ended
        if len(self._last) > _MAX_LAST_DISCONNECTS:
            self._last.popitem(last=False)
        for follower in self.followers:
            follower.left(connection, ended)

    def names(self, account: str) -> list[str]:
        """The account's connected devices, in no order that matters."""
        found = self._accounts.get(account)
        return list(found.devices) if found else []

    def find(self, account: str, device: str) -> ConnectionInfo | None:
        """The newest connection of a device; None: not connected to this process."""
        connection = self.newest(account, device)
        return connection.describe() if connection else None

    def last_disconnect(self, account: str, device: str) -> DisconnectInfo | None:
        """How the device's last connection here ended; None: not known (any more)."""
        return self._last.get((account, device))

    def latest(self, account: str, device: str) -> dict[str, Any] | None:
        """The latest position this connection sent and got acknowledged; None: not connected, or none yet."""
        connection = self.newest(account, device)
        return connection.position() if connection else None

    def disconnect(self, account: str, device: str, code: int, reason: str) -> bool:
        """Ask all connections of a device to leave, then close them with `code`; False: it has none."""
        connections = self.members(account, device)
        for connection in list(connections):
            connection.leave(OPERATOR, code=code, words=reason)
        return bool(connections)

    def newest(self, account: str, device: str) -> Member | None:
        """The connection that was opened last; None: it has none here."""
        connections = self.members(account, device)
        return connections[-1] if connections else None

    def members(self, account: str, device: str) -> list[Member]:
        """All connections of a device, the newest last."""
        found = self._accounts.get(account)
        return found.of(device) if found else []
