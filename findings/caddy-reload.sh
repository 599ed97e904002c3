#!/usr/bin/env bash
# Caddy 2.6.2 (Debian 12): loading a configuration again closes every proxied websocket with 1001, all at once, whatever was
# changed in it. Newer versions have stream_close_delay, and the same default.
#
# Seen:
#   before the reload: open
#   after the reload: closed with 1001
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
[ "$(caddy version)" = 2.6.2 ] || { echo "this is about Caddy 2.6.2, here is $(caddy version)" >&2; exit 1; }
export HOME=$work XDG_DATA_HOME=$work
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check websockets==17.4
"$work/v/bin/python" - "$work" <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import asyncio
import socket
import sys
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

folder = Path(sys.argv[1])


def free():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


async def run(*command):
    quiet = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec("caddy", *command, stdout=quiet, stderr=quiet)


async def main():
    front, admin = free(), free()
    config = folder / "Caddyfile"
    async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0) as server:
        back = server.sockets[0].getsockname()[1]
        text = f"{{\n\tadmin localhost:{admin}\n\tauto_https off\n}}\n:{front} {{\n\treverse_proxy 127.0.0.1:{back}\n}}\n"
        config.write_text(text)
        options = ("--adapter", "caddyfile", "--config", str(config))
        caddy = await run("run", *options)
        for _ in range(100):
            try:
                connection = await connect(f"ws://127.0.0.1:{front}/")
                break
            except OSError:
                await asyncio.sleep(0.1)
        await asyncio.wait_for(await connection.ping(), 5)
        print("before the reload: open")
        config.write_text(text + ":0 {\n}\n")
        await (await run("reload", *options)).wait()
        try:
            await asyncio.wait_for(connection.recv(), 5)
        except ConnectionClosed as closed:
            print("after the reload: closed with", closed.rcvd.code)
        except TimeoutError:
            print("after the reload: open")
        caddy.terminate()
        await caddy.wait()


asyncio.run(main())
PY
