"""The measure: websockets' own asyncio server as an echo, on its defaults but for the size of messages."""

from __future__ import annotations

import argparse
import asyncio

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def run(max_bytes: int, compression: bool) -> None:
    async with serve(
        echo, "127.0.0.1", 0, max_size=max_bytes, compression="deflate" if compression else None
    ) as server:
        print("ready", next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-bytes", type=int, required=True)
    parser.add_argument("--compression", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.max_bytes, arguments.compression))
