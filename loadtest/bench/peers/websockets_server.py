"""Peer: websockets.asyncio with keepalive, no compression. Prints `ready PORT`.

With `fanout` a message `publish N` is broadcast N times, with 200 bytes, to all connections; else messages come back.
"""

from __future__ import annotations

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

TEXT = "x" * 200


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def publish(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            for _ in range(int(str(message).removeprefix("publish "))):
                broadcast(connection.server.connections, TEXT)
    except ConnectionClosed:
        pass


async def main() -> None:
    handler = publish if "fanout" in sys.argv else echo
    async with serve(
        handler, "127.0.0.1", 0, compression=None, ping_interval=25, ping_timeout=25, backlog=4096, max_size=131_072
    ) as server:
        print("ready", next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


uvloop.run(main())
