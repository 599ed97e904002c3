"""The numbers of all connections, in columns by slot: an array holds them in 8 bytes where an object takes 32.

Growing a column never moves a connection; the slot of one that ended is used again. All grow by many slots at once: a
handshake would wait for thirteen of them.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from gateway.wire.proxy import read_address

_V4_MAPPED = 0xFFFF << 32
_LOW = (1 << 64) - 1
_GROWTH_SLOTS = 256
# Every number of a column takes 8 bytes.
_NEW = bytes(8 * _GROWTH_SLOTS)


class Table:
    """Columns by slot. Moments are monotonic seconds unless their name says `_ms` (Unix epoch).

    `heard_s`: last word from the peer. `planned_s`: when we shall ask it to leave (age or token), 0: never.
    `expires_ms`: end of its token. `messages_s`, `bytes_s`: theoretical arrival times (rate.py). `deadline_s`: end of
    what is under way (handshake, close, a full send buffer), 0: nothing is. `id_high`, `id_low`: the UUIDv7.
    `slots`: how many were ever taken.
    """

    __slots__ = (
        "_columns",
        "_free",
        "address_high",
        "address_low",
        "bytes_s",
        "deadline_s",
        "expires_ms",
        "heard_s",
        "id_high",
        "id_low",
        "lat",
        "lon",
        "messages_s",
        "planned_s",
        "position_ms",
        "slots",
    )

    _DOUBLES = ("heard_s", "planned_s", "messages_s", "bytes_s", "deadline_s", "lat", "lon")
    _SIGNED = ("expires_ms", "position_ms")
    _UNSIGNED = ("id_high", "id_low", "address_high", "address_low")

    def __init__(self) -> None:
        self.heard_s = array("d")
        self.planned_s = array("d")
        self.messages_s = array("d")
        self.bytes_s = array("d")
        self.deadline_s = array("d")
        self.lat = array("d")
        self.lon = array("d")
        self.expires_ms = array("q")
        self.position_ms = array("q")
        self.id_high = array("Q")
        self.id_low = array("Q")
        self.address_high = array("Q")
        self.address_low = array("Q")
        self._columns = tuple(getattr(self, name) for name in self._DOUBLES + self._SIGNED + self._UNSIGNED)
        self._free = array("I")
        self.slots = 0

    def take(self) -> int:
        """A slot with all its numbers 0."""
        if self._free:
            slot = self._free.pop()
            for column in self._columns:
                column[slot] = 0
            return slot
        if self.slots == len(self.heard_s):
            for column in self._columns:
                column.frombytes(_NEW)
        self.slots += 1
        return self.slots - 1

    def give_back(self, slot: int) -> None:
        """The connection ended; its slot may be taken again."""
        self._free.append(slot)

    def set_address(self, slot: int, address: IPv4Address | IPv6Address) -> None:
        """Keep the peer's address in 16 bytes, IPv4 as mapped into IPv6 (RFC 4291, 2.5.5.2)."""
        number = int(address) | (_V4_MAPPED if address.version == 4 else 0)
        self.address_high[slot] = number >> 64
        self.address_low[slot] = number & _LOW

    def address(self, slot: int) -> str:
        """The peer's address as text."""
        address = IPv6Address(self.address_high[slot] << 64 | self.address_low[slot])
        return str(address.ipv4_mapped or address)


# Behind a load balancer all peers have the addresses of its nodes.
@lru_cache(1024)
def parse_address(text: str) -> IPv4Address | IPv6Address:
    """An address of the socket layer; 0.0.0.0 for that of a peer that is gone already."""
    try:
        return read_address(text)
    except ValueError:
        return IPv4Address(0)
