"""The latest positions that still have to be written: one a device, however many events came."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent

Key = tuple[str, str]
Positions = list[tuple[Key, LocationEvent]]
MAX_DEVICES = 20_000


class LatestPositions:
    """By account and device. Bounded: of too many devices the ones noted first are forgotten until they send again."""

    def __init__(self) -> None:
        self._due: dict[Key, LocationEvent] = {}

    def __len__(self) -> int:
        return len(self._due)

    def note(self, groups: Sequence[DeviceEvents]) -> None:
        """These events came."""
        due = self._due
        for group in groups:
            newest = max(group.events, key=_time) if len(group.events) > 1 else group.events[0]
            self._note((group.account, group.device), newest)
        while len(due) > MAX_DEVICES:
            del due[next(iter(due))]

    def get(self, account: str, device: str) -> LocationEvent | None:
        """What waits to be written of a device; None: nothing."""
        return self._due.get((account, device))

    def take(self, maximum: int) -> Positions:
        """At most this number of them, which are no longer due."""
        keys = list(self._due)[:maximum]
        return [(key, self._due.pop(key)) for key in keys]

    def put_back(self, positions: Positions) -> None:
        """These were not written after all."""
        for key, event in positions:
            self._note(key, event)

    def _note(self, key: Key, event: LocationEvent) -> None:
        known = self._due.get(key)
        if known is None or event.time >= known.time:
            self._due[key] = event


def _time(event: LocationEvent) -> int:
    return event.time
