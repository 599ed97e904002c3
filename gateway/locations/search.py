"""Searching location events: pages, and cursors that continue them."""

from __future__ import annotations

from gateway.locations.ports import LocationIndex
from gateway.locations.query import Found, Page, Position, Query, encode_cursor


class SearchService:
    """Answers searches of one account at a time from the location index.

    What was acknowledged as indexed before a call is found by it. What was acknowledged as spooled is found after its
    replay. Pages continue after the last event of the page before, not at a number, so events that arrive meanwhile
    make none appear twice and none disappear: those that sort behind the cursor come on a later page, those before it
    (for a search newest first: newer ones) are not part of this walk and need a new one.
    """

    def __init__(self, index: LocationIndex) -> None:
        self._index = index

    async def search(self, account: str, query: Query) -> Page:
        """Events that match all of the query, newest first, then device, then id. Raises StoreError."""
        return _page(*await self._index.search(account, query))

    async def track(self, account: str, query: Query) -> Page:
        """The events of `query.device` (see `query.parse_track`), oldest first, then id. Raises StoreError."""
        return _page(*await self._index.track(account, query))

    async def latest(self, account: str, device: str) -> Found | None:
        """The device's event with the newest time; None when it has none within the retention. Raises StoreError."""
        return await self._index.latest(account, device)


def _page(events: list[Found], more: bool) -> Page:
    if not more:
        return Page(events)
    last = events[-1]
    return Page(events, encode_cursor(Position(last.time, last.device, last.id)))
