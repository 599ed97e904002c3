"""Bytes on the wire as tests need them: requests and frames of a client, legal or not, and what a server answers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x11\x22\x33\x44"


class Frame(NamedTuple):
    """A frame as it was read from the wire."""

    opcode: int
    payload: bytes
    final: bool = True
    reserved: int = 0

    @property
    def close_code(self) -> int:
        """The code of a close frame, 1005 when it has none."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    mask: bytes | None = MASK,
    reserved: int = 0,
    length_bytes: int | None = None,
    claimed: int | None = None,
) -> bytes:
    """One frame of a client. `mask` None leaves it unmasked; `length_bytes` 0, 2 or 8 forces an extended length,
    `claimed` a length other than the payload's.
    """
    length = len(payload) if claimed is None else claimed
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65_536 else 8
    first = (0x80 if final else 0) | reserved << 4 | opcode
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes((first, short | (0x80 if mask is not None else 0)))
    if length_bytes:
        head += length.to_bytes(length_bytes, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def close_payload(code: int | None = None, reason: bytes = b"") -> bytes:
    """The body of a close frame; without a code it is empty."""
    return b"" if code is None else code.to_bytes(2, "big") + reason


def server_frames(data: bytes) -> list[Frame]:
    """The whole, unmasked frames a server wrote. Fails on anything else."""
    frames = []
    position = 0
    while position < len(data):
        first, length = data[position], data[position + 1]
        position += 2
        assert length < 128, "a server must not mask"
        if length > 125:
            size = 2 if length == 126 else 8
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        payload = data[position : position + length]
        assert len(payload) == length, "a frame is cut off"
        frames.append(Frame(first & 0xF, payload, bool(first & 0x80), first >> 4 & 7))
        position += length
    return frames


def decompressed(frame: Frame) -> bytes:
    """The first message of a server that compresses, in one frame (RFC 7692, 7.2.2)."""
    assert frame.reserved == 4, "the frame is not compressed"
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame.payload + b"\x00\x00\xff\xff")


def request(
    token: str | None = None,
    *,
    path: str = "/ws",
    protocols: Iterable[str] = (),
    headers: Iterable[tuple[str, str]] = (),
    without: Iterable[str] = (),
    method: str = "GET",
) -> bytes:
    """A websocket handshake request; `without` names headers to leave out, `headers` come last."""
    lines = {
        "Host": "gateway.test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    if token is not None:
        lines["Authorization"] = f"Bearer {token}"
    if protocols := list(protocols):
        lines["Sec-WebSocket-Protocol"] = ", ".join(protocols)
    for name in without:
        lines.pop(name, None)
    for name, value in headers:
        lines[name] = value
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")


class Answer(NamedTuple):
    """An HTTP answer; the names of headers are in small letters. `rest` is what follows it."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes


def read_answer(data: bytes) -> Answer:
    """Parse the answer that `data` begins with."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, f"no whole answer: {data!r}"
    status_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    length = int(headers.get("content-length", 0))
    return Answer(int(status_line.split(" ")[1]), headers, rest[:length], rest[length:])
