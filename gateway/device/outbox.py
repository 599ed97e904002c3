"""What a device has measured and was not acknowledged yet: sent, resent with the same ids, never twice counted."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from gateway.device.reconnect import MAX_OBEYED_S

_OPEN = b'{"type":"locations","events":['
_CLOSE = b"]}"
_SINGLE = b'{"type":"location",'


class Entry(Struct):
    """One event. `payload` is its JSON object; times are seconds of the caller's monotonic clock.

    `first_sent_s` None: never sent. `sent_s` None: not in flight.
    """

    id: str
    payload: bytes
    first_sent_s: float | None = None
    sent_s: float | None = None
    not_before_s: float = 0.0


class Message(NamedTuple):
    """One frame to send and how many events it carries."""

    payload: bytes
    events: int


class Outbox:
    """Bounded memory of unacknowledged events, oldest first.

    When it is full the oldest event that is not in flight makes room (a device wants to be found where it is now), and
    is counted in `dropped`.
    """

    def __init__(self, capacity: int, window: int, resend_after_s: float) -> None:
        """`window`: events in flight at most. `resend_after_s`: an answer later than this is not waited for."""
        self._entries: dict[str, Entry] = {}
        self._in_flight = 0
        self._capacity = capacity
        self._window = window
        self._resend_after_s = resend_after_s
        self.dropped = 0
        self.rejected = 0
        self.acked = 0
        self.sent = 0
        self.resent = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def in_flight(self) -> int:
        """Events sent on the present connection and not answered."""
        return self._in_flight

    @property
    def full(self) -> bool:
        """Whether the next `put` would drop an event."""
        return len(self._entries) >= self._capacity

    def put(self, id_: str, payload: bytes) -> str | None:
        """Keep an event (`payload` a JSON object of at least one field); returns the id that was dropped for it."""
        dropped = self._drop_oldest() if self.full else None
        self._entries[id_] = Entry(id_, payload)
        return dropped

    def take(self, now_s: float, max_events: int, max_bytes: int) -> Message | None:
        """The next frame within these limits; marks its events in flight. None: nothing to send now.

        Everything goes out oldest first. An event that alone is larger than `max_bytes` is rejected, for it could
        never be sent.
        """
        chosen: list[Entry] = []
        size = len(_OPEN) + len(_CLOSE)
        room = min(max_events, self._window - self._in_flight)
        for entry in list(self._entries.values()) if room > 0 else []:
            if entry.sent_s is not None or entry.not_before_s > now_s:
                continue
            if len(_OPEN) + len(entry.payload) + len(_CLOSE) > max_bytes:
                self._reject(entry)
                continue
            if len(chosen) == room or size + len(entry.payload) > max_bytes:
                break
            chosen.append(entry)
            size += len(entry.payload) + 1
        if not chosen:
            return None
        for entry in chosen:
            self._mark_sent(entry, now_s)
        return Message(_frame(chosen), len(chosen))

    def acknowledge(self, ids: list[str], now_s: float) -> list[float]:
        """Forget what is stored for good; returns the ms since each was first sent. Unknown ids are ignored."""
        latencies_ms = []
        for id_ in ids:
            entry = self._entries.pop(id_, None)
            if entry is None:
                continue
            self._in_flight -= entry.sent_s is not None
            self.acked += 1
            if entry.first_sent_s is not None:
                latencies_ms.append((now_s - entry.first_sent_s) * 1000)
        return latencies_ms

    def refuse(self, ids: list[str], retry_after_ms: int | None, now_s: float) -> int:
        """Take note of a `nack`: send again after that time, or never (None). Returns how many were given up."""
        given_up = 0
        for id_ in ids:
            entry = self._entries.get(id_)
            if entry is None:
                continue
            if retry_after_ms is None:
                self._reject(entry)
                given_up += 1
            else:
                self._in_flight -= entry.sent_s is not None
                entry.sent_s = None
                entry.not_before_s = now_s + min(retry_after_ms / 1000, MAX_OBEYED_S)
        return given_up

    def disconnected(self) -> int:
        """Everything in flight is to be sent again, with the same ids; returns how many."""
        lost = 0
        for entry in self._entries.values():
            lost += entry.sent_s is not None
            entry.sent_s = None
        self._in_flight = 0
        return lost

    def overdue(self, now_s: float) -> int:
        """Give back to sending what was never answered on a living connection; returns how many."""
        late = 0
        for entry in self._entries.values():
            if entry.sent_s is not None and entry.sent_s + self._resend_after_s <= now_s:
                entry.sent_s = None
                late += 1
        self._in_flight -= late
        return late

    def next_due_s(self) -> float | None:
        """The moment something changes by itself: a retry falls due or an answer is overdue. None: nothing kept."""
        return min(
            (
                entry.not_before_s if entry.sent_s is None else entry.sent_s + self._resend_after_s
                for entry in self._entries.values()
            ),
            default=None,
        )

    def _mark_sent(self, entry: Entry, now_s: float) -> None:
        if entry.first_sent_s is None:
            entry.first_sent_s = now_s
            self.sent += 1
        else:
            self.resent += 1
        entry.sent_s = now_s
        self._in_flight += 1

    def _reject(self, entry: Entry) -> None:
        del self._entries[entry.id]
        self._in_flight -= entry.sent_s is not None
        self.rejected += 1

    def _drop_oldest(self) -> str | None:
        victim = next((entry for entry in self._entries.values() if entry.sent_s is None), None)
        if victim is None:
            victim = next(iter(self._entries.values()))
            self._in_flight -= 1
        del self._entries[victim.id]
        self.dropped += 1
        return victim.id


def _frame(entries: list[Entry]) -> bytes:
    if len(entries) == 1:
        return _SINGLE + entries[0].payload[1:]
    return _OPEN + b",".join(entry.payload for entry in entries) + _CLOSE
