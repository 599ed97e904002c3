"""Past connections of a device, whichever gateway held them."""

from __future__ import annotations

from typing import NamedTuple

from gateway.channels.envelopes import Remember, Remembered
from gateway.channels.fleet import Fleet
from gateway.errors import BrokerDownError, StoreError
from gateway.history.ports import HistoryStore
from gateway.history.record import PastConnection, newest


class Past(NamedTuple):
    """The newest first. `incomplete` says why some of other gateways are missing; "": none are."""

    connections: list[PastConnection]
    incomplete: str = ""


class LocalPast:
    """What one store knows: that of this process, or one that all gateways share."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    async def read(self, account: str, device: str) -> Past:
        """Raises StoreError."""
        return Past(await self._store.read(account, device))


class FleetPast:
    """What the stores of all living gateways know."""

    def __init__(self, store: HistoryStore, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet
        fleet.peers.serve(Remember, self._remember)

    async def read(self, account: str, device: str) -> Past:
        """Raises StoreError."""
        here = await self._store.read(account, device)
        try:
            there = await self._fleet.ask_all(account, Remember(device), Remembered)
        except BrokerDownError as error:
            return Past(here, f"other gateways cannot be asked: {error}")
        found = [*here, *(one for answer in there.answers for one in answer.connections)]
        return Past(newest(found), there.incomplete)

    async def _remember(self, account: str, asked: Remember) -> Remembered | None:
        try:
            return Remembered(await self._store.read(account, asked.device))
        except StoreError:
            # No answer is one, too: the asker says that something is missing.
            return None
