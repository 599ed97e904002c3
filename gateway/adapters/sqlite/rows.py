"""How an event is kept in a row: its JSON with a checksum in front, which covers account and device, too.

Rows of files that schema 1 made hold the JSON alone. It begins with a brace, the others with a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from zlib import crc32

from msgspec import MsgspecError, json

from gateway.locations.query import Found

MARK = 1
_BRACE = ord("{")
# The mark and the checksum.
_HEAD = Struct(">BI")
pack_head = _HEAD.pack
_MAX_NAMES = 10_000

_encode = json.Encoder().encode
_decode = json.Decoder(list[Found]).decode
_decode_one = json.Decoder(Found).decode


def seed(account: bytes, device: bytes) -> int:
    """What the checksums of a device's rows begin with: a row's head is `pack_head(MARK, crc32(document, seed))`."""
    return crc32(device, crc32(account + b"\0"))


class RowReader:
    """Reads rows of one account."""

    def __init__(self, account: str) -> None:
        self._account = account.encode()
        self._devices: dict[bytes, tuple[int, bytes]] = {}

    def read(self, names: Sequence[bytes], rows: Sequence[bytes]) -> list[Found | None]:
        """The events of rows, with the device's name of each; None for a row that is damaged."""
        texts = [self._text(name, row) for name, row in zip(names, rows, strict=True)]
        try:
            if None not in texts:
                return list(_decode(b"[" + b",".join(texts) + b"]"))  # type: ignore[arg-type]
        except (MsgspecError, UnicodeDecodeError):
            pass
        return [_one(text) for text in texts]

    def _text(self, name: bytes, row: bytes) -> bytes | None:
        """A row as JSON with the device in it; None when its checksum is wrong."""
        known = self._devices.get(name)
        if known is None:
            if len(self._devices) >= _MAX_NAMES:
                self._devices.clear()
            known = self._devices[name] = (seed(self._account, name), _opening(name))
        begin, opening = known
        if row and row[0] == _BRACE:
            return opening + row[1:]
        document = row[_HEAD.size :]
        if row[: _HEAD.size] != pack_head(MARK, crc32(document, begin)):
            return None
        return opening + document[1:]


def _opening(name: bytes) -> bytes:
    return b'{"device":' + _encode(name.decode(errors="replace")) + b","


def _one(text: bytes | None) -> Found | None:
    try:
        return None if text is None else _decode_one(text)
    except (MsgspecError, UnicodeDecodeError):
        return None
