"""What is known of devices, whichever gateway holds them: which are connected, what was last heard of one, and asking
one to leave."""

from __future__ import annotations

import heapq
from itertools import groupby
from typing import NamedTuple

from gateway.channels.envelopes import Describe, Described, Dismiss, Dismissed, Listed, Listing
from gateway.channels.fleet import Fleet
from gateway.connections.info import ConnectionInfo
from gateway.connections.paging import next_names
from gateway.connections.registry import Registry
from gateway.errors import BrokerDownError

# The largest page of the API.
MAX_LISTED = 1000


class DevicesFound(NamedTuple):
    """A page by id. `next`: the id behind which the next one begins; None: there is none. `incomplete` says why
    devices of other gateways are missing; "": none are."""

    devices: list[ConnectionInfo]
    next: str | None
    incomplete: str = ""


class LocalDevices:
    """Those of this process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def page(self, account: str, after: str | None, limit: int) -> DevicesFound:
        """At most `limit` connected devices behind `after`, by id."""
        names = await next_names(self._registry.names(account), after, limit + 1)
        # Some may have left meanwhile.
        found = [found for name in names[:limit] if (found := self._registry.find(account, name)) is not None]
        return DevicesFound(found, names[limit - 1] if len(names) > limit else None)

    async def describe(self, account: str, device: str) -> Described:
        """What is known of one."""
        registry = self._registry
        return Described(
            registry.find(account, device), registry.last_disconnect(account, device), registry.latest(account, device)
        )

    async def dismiss(self, account: str, device: str, code: int, reason: str) -> bool:
        """Ask its connections to leave; whether it has any."""
        return self._registry.disconnect(account, device, code, reason)


class FleetDevices:
    """Those of all gateways: every living one is asked, so that a directory that lags behind hides none."""

    def __init__(self, local: LocalDevices, fleet: Fleet) -> None:
        self._local = local
        self._fleet = fleet
        peers = fleet.peers
        peers.serve(Listing, self._list)
        peers.serve(Describe, self._describe)
        peers.serve(Dismiss, self._dismiss)

    async def page(self, account: str, after: str | None, limit: int) -> DevicesFound:
        """See LocalDevices."""
        here = await self._local.page(account, after, limit)
        try:
            there = await self._fleet.ask_all(account, Listing(after, limit), Listed)
        except BrokerDownError as error:
            return here._replace(incomplete=f"other gateways cannot be asked: {error}")
        # A device may be connected to several of them: the newest connection is shown.
        merged = heapq.merge(here.devices, *(listed.devices for listed in there.answers), key=_by_id)
        newest = [max(group, key=_age) for _, group in groupby(merged, key=_by_id)]
        # Behind the end of a page that goes on, that gateway may have others.
        ends = [end for end in (here.next, *(listed.next for listed in there.answers)) if end is not None]
        if ends:
            newest = [found for found in newest if found.device <= min(ends)]
        if len(newest) > limit:
            return DevicesFound(newest[:limit], newest[limit - 1].device, there.incomplete)
        return DevicesFound(newest, min(ends, default=None), there.incomplete)

    async def describe(self, account: str, device: str) -> Described:
        """See LocalDevices. Raises BrokerDownError when it is not connected here and others cannot be asked."""
        here = await self._local.describe(account, device)
        if here.connection is not None:
            return here
        there = await self._fleet.ask_all(account, Describe(device), Described)
        entry = await self._fleet.find(account, device)
        known = [here, *there.answers]
        connection = max((one.connection for one in known if one.connection is not None), key=_age, default=None)
        if connection is None and (entry is None or entry.holder is not None):
            # Only the directory can say that a device is nowhere; whoever was not heard may have it.
            there.complete()
        # The gateway that it left may be gone.
        told = [None if entry is None else entry.last, *(one.last_disconnect for one in known)]
        lasts = [last for last in told if last is not None]
        latest = [one.latest for one in known if one.latest is not None]
        return Described(
            connection,
            max(lasts, key=lambda last: last.time_ms, default=None),
            max(latest, key=lambda position: float(position["time"]), default=None),
        )

    async def dismiss(self, account: str, device: str, code: int, reason: str) -> bool:
        """See LocalDevices. Raises BrokerDownError when none was found and others cannot be asked."""
        here = await self._local.dismiss(account, device, code, reason)
        if here and self._fleet.peers.problem:
            return True
        there = await self._fleet.ask_all(account, Dismiss(device, code, reason), Dismissed)
        found = here or any(answer.done for answer in there.answers)
        if not found:
            there.complete()
        return found

    # What others ask of us

    async def _list(self, account: str, asked: Listing) -> Listed:
        found = await self._local.page(account, asked.after, min(asked.limit, MAX_LISTED))
        return Listed(found.devices, found.next)

    async def _describe(self, account: str, asked: Describe) -> Described:
        return await self._local.describe(account, asked.device)

    async def _dismiss(self, account: str, asked: Dismiss) -> Dismissed:
        return Dismissed(await self._local.dismiss(account, asked.device, asked.code, asked.reason))


def _by_id(found: ConnectionInfo) -> str:
    return found.device


def _age(found: ConnectionInfo) -> int:
    return found.connected_ms
