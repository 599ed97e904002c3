"""The handshake requests that nearly all clients send, read directly (RFC 6455, 4.2.1).

Anything else, and whatever is wrong, is left to websockets' Sans-I/O layer (`handshake.py`), which stays the judge.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

MAX_PLAIN_BYTES: Final = 4096
_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, 5.6.2
_HEAD: Final = re.compile(rf"GET [!-~]+ HTTP/1\.1\r\n(?:{_TOKEN}:[\t -~]*\r\n){{1,64}}\r\n")
_LIST: Final = re.compile(rf"{_TOKEN}(?:[\t ]*,[\t ]*{_TOKEN})*")
# 16 bytes in base64: the last digit has four bits that nothing is made of.
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
_OF_A_BODY: Final = frozenset(("transfer-encoding", "content-length"))


class PlainRequest:
    """A handshake with nothing wrong or unusual about it: every header is there once at most."""

    __slots__ = ("_headers",)

    def __init__(self, headers: dict[str, str]) -> None:
        """`headers` by their names in small letters."""
        self._headers = headers

    def get_all(self, name: str) -> list[str]:
        """The values of a header; `name` in any case."""
        value = self._headers.get(name.lower())
        return [] if value is None else [value]

    def switching_protocols(self, subprotocol: str | None) -> bytes:
        """The whole answer 101 (RFC 6455, 4.2.2); `subprotocol` None: the client has offered none."""
        digest = hashlib.sha1(self._headers["sec-websocket-key"].encode() + _ACCEPT_GUID, usedforsecurity=False)
        chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
        return (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {base64.b64encode(digest.digest()).decode()}\r\n{chosen}\r\n"
        ).encode()


def read_plain_request(head: bytes) -> PlainRequest | None:
    """Read exactly one request's head; None: the Sans-I/O layer has to look at it."""
    if len(head) > MAX_PLAIN_BYTES or not head.isascii():
        return None
    text = head.decode()
    if not _HEAD.fullmatch(text):
        return None
    lines = text[:-4].split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip("\t ")
    # A name that comes twice is a list, or an error.
    if len(headers) < len(lines) - 1 or not _is_plain_handshake(headers):
        return None
    return PlainRequest(headers)


def _is_plain_handshake(headers: dict[str, str]) -> bool:
    connection = headers.get("connection", "")
    offered = headers.get("sec-websocket-protocol")
    return (
        headers.get("host", "") != ""
        and headers.get("upgrade", "").lower() == "websocket"
        and (connection == "Upgrade" or _upgrades(connection))
        and _KEY.fullmatch(headers.get("sec-websocket-key", "")) is not None
        and headers.get("sec-websocket-version") == "13"
        and (offered is None or _LIST.fullmatch(offered) is not None)
        and _OF_A_BODY.isdisjoint(headers)
    )


def _upgrades(connection: str) -> bool:
    """Whether a Connection header is a list with `upgrade` in it."""
    return _LIST.fullmatch(connection) is not None and "upgrade" in (
        option.strip("\t ") for option in connection.lower().split(",")
    )
