"""Who has died, by the session locks that processes hold. Only a hint: a process whose connection was cut is alive."""

from __future__ import annotations

from gateway.workflows.fleet import FleetSeen

# One look may fall between the end of a connection and its return.
LOOKS = 2


class LockWatch:
    """Several locks that vanish together, or a new life of the server, say something of the network or the server, and
    nothing of processes: then all hints are ignored for `distrust_s`."""

    def __init__(self, distrust_s: float) -> None:
        self._distrust_s = distrust_s
        self._distrusted_until_s = float("-inf")
        self._server: str | None = None
        # Looks since which a lock that was there is not.
        self._missing: dict[int, int] = {}

    def look(self, seen: FleetSeen, now_s: float) -> frozenset[int]:
        """The locks whose holders have died. `now_s` is a monotonic clock's."""
        if seen.locks is None:
            self._missing.clear()
            return frozenset()
        if self._server not in (None, seen.server):
            self._distrust(now_s)
        self._server = seen.server
        keys = {one.lock_key for one in seen.managers if one.lock_key is not None}
        if seen.leader is not None and seen.leader.lock_key is not None:
            keys.add(seen.leader.lock_key)
        missing: dict[int, int] = {}
        for key in keys:
            if key in seen.locks:
                missing[key] = 0
            elif key in self._missing:
                # One that was never there says nothing.
                missing[key] = self._missing[key] + 1
        self._missing = missing
        gone = [key for key, looks in self._missing.items() if looks]
        if len(gone) > 1:
            self._distrust(now_s)
        if now_s < self._distrusted_until_s:
            return frozenset()
        return frozenset(key for key in gone if self._missing[key] >= LOOKS)

    def _distrust(self, now_s: float) -> None:
        self._distrusted_until_s = now_s + self._distrust_s
        # Those that come back are trusted again; those that do not are left to their leases.
        self._missing = {key: looks for key, looks in self._missing.items() if not looks}
