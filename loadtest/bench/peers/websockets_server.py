"""Peer: websockets.asyncio with keepalive, no compression. Prints `ready PORT`."""

from __future__ import annotations

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main() -> None:
    async with serve(
        echo, "127.0.0.1", 0, compression=None, ping_interval=25, ping_timeout=25, backlog=4096, max_size=131_072
    ) as server:
        print("ready", next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


uvloop.run(main())
