"""What the fan-out needs from outside: subscribers, the words of their subprotocol, and the other gateways."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.channels.channel import Channel
from gateway.channels.refusal import Refusal


class Subscriber(Protocol):
    """A connection, as the fan-out sees it."""

    @property
    def slot(self) -> int: ...

    @property
    def account_name(self) -> str: ...

    @property
    def max_payload_bytes(self) -> int:
        """The largest message that it can read."""

    def may(self, scope: str) -> bool:
        """Whether its token allows what `scope` stands for."""

    def send(self, payload: bytes) -> None:
        """Send a text message, whatever it takes."""

    def push(self, frame: bytes) -> bool:
        """Send a text frame; False: its peer does not read what was sent before, and nothing was added to it."""

    def failed(self, error: Exception) -> None:
        """`push` raised this: end it."""


class Writing(Protocol):
    """How a subprotocol writes what subscribers are told. `offset` None: the channel has none."""

    def subscribed(self, channel: str, offset: int | None, snapshot: Any) -> bytes: ...

    def unsubscribed(self, channel: str) -> bytes: ...

    def event(self, channel: str, offset: int | None, time_ms: int, data: Any) -> bytes: ...

    def refused(self, channel: str, refusal: Refusal, message: str) -> bytes: ...


class Neighbours(Protocol):
    """The other gateways. All calls are made on the loop's thread and return at once."""

    def wanted(self, channel: Channel) -> None:
        """The first local subscriber came: tell `Fanout.receive` or `Fanout.hint` of it what happens elsewhere."""

    def unwanted(self, channel: Channel) -> None:
        """The last local subscriber left."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody elsewhere has subscribed to anything."""

    def wants(self, channel: Channel) -> bool:
        """Whether anyone elsewhere has subscribed to it."""

    def publish(self, channel: Channel, change: Any) -> None:
        """This gateway's own change of a latest channel; nothing happens when nobody elsewhere wants it."""

    def hint(self, channel: Channel) -> None:
        """There is something new in this log."""


class NoNeighbours:
    """The one gateway that there is."""

    def wanted(self, channel: Channel) -> None: ...

    def unwanted(self, channel: Channel) -> None: ...

    @property
    def is_idle(self) -> bool:
        return True

    def wants(self, channel: Channel) -> bool:
        return False

    def publish(self, channel: Channel, change: Any) -> None: ...

    def hint(self, channel: Channel) -> None: ...
