"""A session that writes down what comes before another one acts on it. Without a recording it is not there at all."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from gateway.connections.connection import Connection, Session
from gateway.recording.format import Connected, Disconnected, Said, hashed, measure
from gateway.wire.close_codes import ABNORMAL

if TYPE_CHECKING:
    from gateway.recording.ports import Recording


class RecordedSession:
    """Stands before another session, and tells `recording` of every connection, message and end."""

    def __init__(self, inner: Session, recording: Recording) -> None:
        self._inner = inner
        self._recording = recording
        # Lives as long as the process and is written nowhere: without it names cannot be tried against the hashes.
        self._key = secrets.token_bytes(32)
        self._count = 0
        self._open: dict[int, tuple[int, str]] = {}

    def opened(self, connection: Connection) -> None:
        self._count += 1
        name = hashed(self._key, connection.profile.account.name, connection.device)
        self._open[connection.slot] = (self._count, name)
        # A claim of the token may say anything; only what the settings name is written.
        device_class = connection.profile.device_class
        known = device_class if device_class in connection.hub.classes else ""
        self._recording.put(Connected(self._recording.now_ms(), name, self._count, known))
        self._inner.opened(connection)

    def greeting(self, connection: Connection) -> bytes | None:
        return self._inner.greeting(connection)

    def goaway(self, reason: str, reconnect_after_ms: int) -> bytes:
        return self._inner.goaway(reason, reconnect_after_ms)

    def text(self, connection: Connection, payload: bytes) -> None:
        number, name = self._open[connection.slot]
        kind, events = measure(payload)
        self._recording.put(Said(self._recording.now_ms(), name, number, kind, len(payload), events))
        self._inner.text(connection, payload)

    def binary(self, connection: Connection, payload: bytes) -> None:
        self._inner.binary(connection, payload)

    def writable(self, connection: Connection) -> None:
        self._inner.writable(connection)

    def closed(self, connection: Connection) -> None:
        number, name = self._open.pop(connection.slot)
        ending = connection.hub.endings.get(connection.slot)
        code = (ending.code if ending is not None else 0) or ABNORMAL
        self._recording.put(Disconnected(self._recording.now_ms(), name, number, code))
        self._inner.closed(connection)
