"""Floor: an event loop's protocol that answers 101 to whatever ends like a request, and does nothing else.

Prints `ready PORT`. What it does for a connection nobody can leave out: accept, one read, the key's digest, one write.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import cast

import uvloop

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = b"Sec-WebSocket-Key: "
_KEY_BYTES = 24


class Bare(asyncio.Protocol):
    __slots__ = ("_transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"\r\n\r\n"):
            return
        start = data.find(_KEY) + len(_KEY)
        digest = base64.b64encode(
            hashlib.sha1(data[start : start + _KEY_BYTES] + _GUID, usedforsecurity=False).digest()
        )
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n"
        )


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0, backlog=4096)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())
