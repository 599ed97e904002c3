"""What a part brings along that offers log channels: its store, read by offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class LogEvent(NamedTuple):
    """One event of a log. `offset` ≥ 1 grows with every event of its channel; `time_ms` since the Unix epoch. `data` is
    what msgspec encodes, `msgspec.Raw` of JSON as it was stored included."""

    offset: int
    time_ms: int
    data: Any


class LogPage(NamedTuple):
    """Events after an offset, in order. `more`: there are others behind them.

    `kept_after`: every event with a larger offset is still kept; 0: all are. `newest`: the largest offset given out so
    far, 0: none. An offset that was asked for below the one or above the other is a gap, and the subscriber is told.
    """

    events: Sequence[LogEvent]
    more: bool = False
    kept_after: int = 0
    newest: int = 0


class LogSnapshot(NamedTuple):
    """The state that all events up to and including `offset` have led to; `state` is what msgspec encodes."""

    offset: int
    state: Any


class ChannelLog(Protocol):
    """The store of one family of log channels. It is the truth; hints only say when to look.

    `subject` is what stands behind the colon of the channel's name, "" for a family without subjects. Every call is
    for one account, and a channel of another account is one that does not exist. All raise StoreError when the store
    cannot tell, take a bounded time, and may be cancelled.
    """

    async def snapshot(self, account: str, subject: str) -> LogSnapshot | None:
        """The state as of now; None: there is no such channel in this account."""

    async def read(self, account: str, subject: str, after: int, limit: int) -> LogPage | None:
        """At most `limit` events with offsets above `after`; None: there is no such channel in this account."""

    async def newest(self, channels: Sequence[tuple[str, str]]) -> Sequence[int | None]:
        """The newest offset of each (account, subject), 0 for one that is gone: one query for all, once a second.

        None: whoever writes it is this process, and hints at everything; it was not asked for.
        """
