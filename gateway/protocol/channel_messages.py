"""How `heiwa.v1.json` writes what subscribers and senders of commands are told. Pure."""

from __future__ import annotations

from typing import Any

from gateway.channels.commands import Outcome, Settled
from gateway.channels.refusal import Refusal
from gateway.protocol.messages import CommandResult, Error, Event, Subscribed, Unsubscribed, encode


class ChannelMessages:
    """The `Writing` of the fan-out, and the `ResultWriting` of those who send commands."""

    def subscribed(self, channel: str, offset: int | None, snapshot: Any) -> bytes:
        """`offset` and `snapshot` None: left out."""
        return encode(Subscribed(channel, offset, snapshot))

    def unsubscribed(self, channel: str) -> bytes:
        """The answer to `unsubscribe`."""
        return encode(Unsubscribed(channel))

    def event(self, channel: str, offset: int | None, time_ms: int, data: Any) -> bytes:
        """`offset` None: left out."""
        return encode(Event(channel, time_ms, data, offset))

    def result(self, id: str, settled: Settled) -> bytes:
        """What the device answered to a client's command, be it an error of its own."""
        if settled.outcome is Outcome.DONE:
            return encode(CommandResult(id, True, settled.value))
        return encode(CommandResult(id, False, error=settled.value))

    def no_result(self, id: str, code: str, message: str) -> bytes:
        """Why there is none."""
        return encode(Error(code, message, id))

    def refused(self, channel: str, refusal: Refusal, message: str) -> bytes:
        """There are no events, or no more."""
        return encode(Error(refusal.value, message, channel=channel))
