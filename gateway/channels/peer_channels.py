"""Channels over several gateways: who elsewhere watches what happens here is told, and the other way round.

Who watches is kept in the directory. The holder of a device learns of it when the device connects, or from the watcher
that finds the device here; so positions of devices that nobody watches cost nothing. Of channels that are about no
device the directory is asked whenever there is something to tell.

What is lost while the broker is away is read again on its return (`Fanout.doubt`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from gateway.channels.announcing import Announcer
from gateway.channels.channel import DEVICE, Channel, device_channel
from gateway.channels.device_state import DeviceState, position_of
from gateway.channels.directory import KEPT_S, Opened, Standing
from gateway.channels.envelopes import Changed, Content, Describe, Described, Hinted, Watched
from gateway.channels.peers import NobodyError, Peers
from gateway.channels.ports import Directory
from gateway.errors import BrokerDownError
from gateway.telemetry.log import Log

# What comes within this time goes together; of a state only the newest.
TICK_S = 0.02
_READ_S = 1.0
# Interest that could not be noted is tried again so often.
_AGAIN_S = 1.0
# Who watches is told again this often, long before the directory forgets it.
_REMIND_S = KEPT_S / 12
# Posts under way at once.
_TOGETHER = 200

_log = Log("channels")


class Shape(NamedTuple):
    """How states of a family travel: what they are, and how a newer one is added to one that is still to be told."""

    kind: type
    merge: Callable[[Any, Any], Any]


class PeerChannels:
    """The port Neighbours over a broker. `run` is its one task; `receive` and `heard` are the fan-out's, `here` and
    `numbered` the device channel's. `remind` has all that is watched here `wanted` again."""

    def __init__(self, peers: Peers, directory: Directory, announcer: Announcer) -> None:
        self._peers = peers
        self._directory = directory
        self._shapes: dict[str, Shape] = {}
        # Channels of devices that are connected here, and who elsewhere watches them.
        self._watchers: dict[Channel, set[str]] = {}
        # What watchers told while connections were being announced: newer than what the directory answers to that.
        self._told_meanwhile: dict[Channel, dict[str, bool]] = {}
        # Still to be told: what our own clients watch, or do no longer; states; and hints.
        self._interest: dict[Channel, bool] = {}
        self._states: dict[Channel, Any] = {}
        self._hints: dict[Channel, None] = {}
        self._due = asyncio.Event()
        self.receive: Callable[[Channel, Any], None] = lambda *_: None
        self.heard: Callable[[Channel], None] = lambda _: None
        self.here: Callable[[str, str], DeviceState] = lambda *_: DeviceState()
        self.numbered: Callable[[str, str, int], None] = lambda *_: None
        self.remind: Callable[[], None] = lambda: None
        self._announcer = announcer
        announcer.asking, announcer.settled = self._told_meanwhile.clear, self._settled
        peers.serve(Watched, self._watched)
        peers.serve(Changed, self._changed)
        peers.serve(Hinted, self._hinted)

    def offer(self, family: str, shape: Shape) -> None:
        """States of channels of this family travel so."""
        self._shapes[family] = shape

    # The port

    def wanted(self, channel: Channel) -> None:
        self._want(channel, wanted=True)

    def unwanted(self, channel: Channel) -> None:
        self._want(channel, wanted=False)

    @property
    def is_idle(self) -> bool:
        return not self._watchers

    def wants(self, channel: Channel) -> bool:
        return channel in self._watchers if channel.family == DEVICE.name else not self._peers.problem

    def publish(self, channel: Channel, change: Any) -> None:
        if self.wants(channel):
            known, shape = self._states.get(channel), self._shapes.get(channel.family)
            self._states[channel] = change if known is None or shape is None else shape.merge(known, change)
            self._due.set()

    def hint(self, channel: Channel) -> None:
        self._hints[channel] = None
        self._due.set()

    def _want(self, channel: Channel, *, wanted: bool) -> None:
        self._interest[channel] = wanted
        self._due.set()

    # What the directory knows

    def number(self, slot: int) -> int:
        """The number of a connection in the directory; 0: it has none yet."""
        return self._announcer.number(slot)

    async def state(self, account: str, device: str) -> DeviceState | None:
        """What others know of a device; None: nothing. Raises BrokerDownError."""
        channel = device_channel(account, device)
        if self._interest.get(channel):
            del self._interest[channel]
            # Whoever is asked below tells from here on what happens after its answer.
            await self._tell_interest(channel, wanted=True)
        entry = await self._directory.find(account, device)
        if entry is None:
            return None
        if entry.holder is None or entry.holder.gateway == self._peers.gateway:
            return DeviceState(connected=entry.holder is not None, order=entry.order)
        try:
            found = await self._peers.ask(entry.holder.gateway, account, Describe(device), Described, _READ_S)
        except (NobodyError, TimeoutError) as error:
            raise BrokerDownError(f"no answer from {entry.holder.gateway}") from error
        position = None if found.latest is None else position_of(found.latest)
        return DeviceState(found.connection is not None, position, entry.order)

    def _settled(self, opened: Opened, standing: Standing, slot: int) -> None:
        """A connection of ours has its number, and who watches the device is known."""
        channel = device_channel(opened.account, opened.device)
        others = {name for name in standing.watchers if name != self._peers.gateway}
        for gateway, watched in self._told_meanwhile.get(channel, {}).items():
            (others.add if watched else others.discard)(gateway)
        if others:
            self._watchers[channel] = others
        else:
            self._watchers.pop(channel, None)
        self.numbered(opened.account, opened.device, slot)

    # What others tell

    async def _watched(self, account: str, told: Watched) -> None:
        channel = Channel(account, told.channel)
        if self._announcer.is_asking:
            self._told_meanwhile.setdefault(channel, {})[told.gateway] = told.watched
        if told.watched and self._announcer.holds(account, channel.subject):
            self._watchers.setdefault(channel, set()).add(told.gateway)
            # It may have looked before the device came.
            self.publish(channel, self.here(account, channel.subject))
        elif not told.watched and channel in self._watchers:
            self._forget(channel, told.gateway)

    async def _changed(self, account: str, told: Changed) -> None:
        channel = Channel(account, told.channel)
        shape = self._shapes.get(channel.family)
        if shape is not None:
            self.receive(channel, msgspec.convert(told.state, shape.kind))

    async def _hinted(self, account: str, told: Hinted) -> None:
        self.heard(Channel(account, told.channel))

    def _forget(self, channel: Channel, gateway: str) -> None:
        watchers = self._watchers.get(channel, set())
        watchers.discard(gateway)
        if not watchers:
            self._watchers.pop(channel, None)

    # What is told

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        remind_s = loop.time() + _REMIND_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S if self._interest else remind_s - loop.time()):
                    await self._due.wait()
            if loop.time() >= remind_s:
                remind_s = loop.time() + _REMIND_S
                self.remind()
            await asyncio.sleep(TICK_S)
            self._due.clear()
            await self._tell()

    async def _tell(self) -> None:
        interest, self._interest = self._interest, {}
        states, self._states = self._states, {}
        hints, self._hints = self._hints, {}
        if self._peers.problem:
            # On its return all of ours is wanted again, and everybody reads again.
            return
        await self._all(self._tell_interest(channel, wanted=wanted) for channel, wanted in interest.items())
        await self._all(self._tell_state(channel, state) for channel, state in states.items())
        await self._all(self._tell_others(channel, Hinted(channel.name)) for channel in hints)

    async def _all(self, tellings: Iterable[Any]) -> None:
        waiting = list(tellings)
        for first in range(0, len(waiting), _TOGETHER):
            for error in await asyncio.gather(*waiting[first : first + _TOGETHER], return_exceptions=True):
                if isinstance(error, BrokerDownError):
                    _log.debug("not_told", problem=str(error))
                elif isinstance(error, Exception):
                    # One channel that cannot be told must not end what tells all others.
                    _log.error("telling_failed", exc_info=error)

    async def _tell_interest(self, channel: Channel, *, wanted: bool) -> None:
        try:
            await self._note_interest(channel, wanted=wanted)
        except BrokerDownError:
            self._interest.setdefault(channel, wanted)
            raise

    async def _note_interest(self, channel: Channel, *, wanted: bool) -> None:
        account, name = channel.account, channel.name
        await (self._directory.watch if wanted else self._directory.unwatch)(account, name)
        if channel.family != DEVICE.name:
            return
        # A device that connects from here on brings the watchers along.
        entry = await self._directory.find(account, channel.subject)
        if entry is not None and entry.holder is not None and entry.holder.gateway != self._peers.gateway:
            told = Watched(name, self._peers.gateway, wanted)
            await self._peers.tell(entry.holder.gateway, account, told)

    async def _tell_state(self, channel: Channel, state: Any) -> None:
        told = Changed(channel.name, msgspec.to_builtins(state))
        if channel.family != DEVICE.name:
            await self._tell_others(channel, told)
            return
        for gateway in list(self._watchers.get(channel, ())):
            if not await self._peers.tell(gateway, channel.account, told):
                self._forget(channel, gateway)
        if not self._announcer.holds(channel.account, channel.subject):
            self._watchers.pop(channel, None)

    async def _tell_others(self, channel: Channel, content: Content) -> None:
        for gateway in await self._directory.watchers(channel.account, channel.name):
            if gateway != self._peers.gateway:
                await self._peers.tell(gateway, channel.account, content)
