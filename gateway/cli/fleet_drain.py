"""The drain of a whole fleet, through the channel `drain` of any of its gateways. Blocks."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from random import SystemRandom
from typing import Any

from gateway.channels.channel import DRAIN
from gateway.errors import HeiwaError
from gateway.watching.messages import Event, Subscribed
from gateway.watching.watcher import Watcher

# A frame comes each second. Without one the gateway whose operations listener is known is asked.
_PATIENCE_S = 2.5


class FleetDrain:
    """`status` tells the newest frame. While there is none – the only gateway takes no connections as it drains, or the
    channel cannot be watched – `alone` tells where one gateway stands.

    `url` is a websocket address, `mint` makes a token with scope admin for each connection. `note` is told what happens
    to the connection.
    """

    def __init__(
        self, url: str, mint: Callable[[], str], alone: Callable[[], dict[str, Any]], note: Callable[[str], None]
    ) -> None:
        self._alone = alone
        self._note = note
        self._patience_s = _PATIENCE_S
        self._frames: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._watcher = Watcher(url, DRAIN.name, "", mint, self, SystemRandom())
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def status(self) -> dict[str, Any]:
        """The next frame as a status: what the gateways that leave have together. Raises what `alone` raises."""
        try:
            frame = self._frames.get(timeout=self._patience_s)
        except queue.Empty:
            self._patience_s = 0.0
            return self._alone()
        self._patience_s = _PATIENCE_S
        while not self._frames.empty():
            frame = self._frames.get_nowait()
        return as_status(frame)

    def _run(self) -> None:
        try:
            asyncio.run(self._watcher.run())
        except HeiwaError as error:
            self._note(str(error))

    # What the watcher shows

    def snapshot(self, subscribed: Subscribed) -> None:
        """The first frame."""
        self._frames.put(subscribed.snapshot)

    def event(self, event: Event) -> None:
        """The next one."""
        self._frames.put(event.data)

    def note(self, text: str) -> None:
        """Not worth a line: the other way is open."""


def as_status(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame in the words of the status of one gateway, with `fleet` as it came."""
    return {
        "state": "draining" if frame["leaving"] else "serving",
        "connections": frame["connections"],
        "remaining": frame["remaining"],
        "progress": {"sent_away": frame["sent_away"]},
        "receipt": None,
        "fleet": frame,
    }


def describe(frame: dict[str, Any]) -> str:
    """A line for the fleet, and one for each gateway."""
    lines = [
        f"{frame['gateways']:,} gateways with {frame['connections']:,} connections; {frame['leaving']:,} leave, "
        f"{frame['remaining']:,} connections to go, {frame['rate_per_s']:,} a second"
    ]
    for each in frame["listed"]:
        line = f"  {each['gateway']}  {each['state']}: {each['connections']:,} connections"
        if each.get("origin"):
            line += f" ({each['origin']}: {each.get('sent_away', 0):,} sent away"
            line += f", {each['seconds_left']:,.0f} s left)" if each.get("seconds_left") else ")"
        lines.append(line)
    return "\n".join(lines)
