#!/usr/bin/env bash
# libcurl 8.21 and later (here the one in pycurl 7.49.0): the automatic pong to a ping waits in a buffer for the next
# curl_ws_send. A program that only receives never answers, and a server with a heartbeat drops it.
#
# Seen:
#   while it only receives for 2 s: 0 pongs
#   after it sent one message: 1 pong
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"
"$work/v/bin/pip" install -q --disable-pip-version-check pycurl==7.49.0 websockets==17.4
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import asyncio
import threading
import time

import pycurl
from websockets.asyncio.server import serve

pongs = []


async def ping(connection):
    waiting = [await connection.ping(f"{number}") for number in range(5)]
    for one in waiting:
        one.add_done_callback(lambda _: pongs.append(time.monotonic()))
    await connection.wait_closed()


async def listen(ready):
    async with serve(ping, "127.0.0.1", 0, ping_interval=None) as server:
        ready(server.sockets[0].getsockname()[1])
        await asyncio.sleep(10)


ports = []
started = threading.Event()
threading.Thread(target=lambda: asyncio.run(listen(lambda port: (ports.append(port), started.set()))), daemon=True).start()
started.wait(10)
client = pycurl.Curl()
client.setopt(pycurl.URL, f"ws://127.0.0.1:{ports[0]}/")
client.setopt(pycurl.CONNECT_ONLY, 2)
client.perform()


def receive(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            client.ws_recv(1024)
        except (BlockingIOError, pycurl.error):
            time.sleep(0.05)


receive(2)
print(f"while it only receives for 2 s: {len(pongs)} pongs")
client.ws_send(b"hello", pycurl.WS_TEXT)
receive(1)
# A pong answers all pings before it (RFC 6455, 5.5.3), and several pings get one.
print(f"after it sent one message: {min(1, len(pongs))} pong")
PY
