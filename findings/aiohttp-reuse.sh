#!/usr/bin/env bash
# aiohttp 3.14.5: a websocket's handshake goes over a pooled connection that has served plain requests. A server or proxy that
# decides with the first request of a connection what it is for refuses it; Go's Transport and OkHttp open a new one.
#
# Seen:
#   plain request: connection 1
#   websocket: connection 1
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check aiohttp==3.14.5
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import asyncio

from aiohttp import ClientSession, web

peers = []


async def answer(request):
    peer = request.transport.get_extra_info("peername")
    if peer not in peers:
        peers.append(peer)
    upgrade = "Upgrade" in request.headers
    print(f"{'websocket' if upgrade else 'plain request'}: connection {peers.index(peer) + 1}")
    if not upgrade:
        return web.Response(text="ok")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.close()
    return socket


async def main():
    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    async with ClientSession() as session:
        async with session.get(f"http://{host}:{port}/") as response:
            await response.read()
        async with session.ws_connect(f"http://{host}:{port}/"):
            pass
    await runner.cleanup()


asyncio.run(main())
PY
