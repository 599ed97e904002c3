"""How `heiwa.v1.json` writes what subscribers are told. Pure."""

from __future__ import annotations

from typing import Any

from gateway.channels.refusal import Refusal
from gateway.protocol.messages import Error, Event, Subscribed, Unsubscribed, encode


class ChannelMessages:
    """The `Writing` of the fan-out."""

    def subscribed(self, channel: str, offset: int | None, snapshot: Any) -> bytes:
        """`offset` and `snapshot` None: left out."""
        return encode(Subscribed(channel, offset, snapshot))

    def unsubscribed(self, channel: str) -> bytes:
        """The answer to `unsubscribe`."""
        return encode(Unsubscribed(channel))

    def event(self, channel: str, offset: int | None, time_ms: int, data: Any) -> bytes:
        """`offset` None: left out."""
        return encode(Event(channel, time_ms, data, offset))

    def refused(self, channel: str, refusal: Refusal, message: str) -> bytes:
        """There are no events, or no more."""
        return encode(Error(refusal.value, message, channel=channel))
