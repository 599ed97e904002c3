#!/usr/bin/env bash
# uvloop 0.23.0: pause_reading() within connection_made of an accepted connection has no effect; asyncio's own loop obeys.
# A protocol that pauses there, to change over to TLS in a task, is handed the client's first bytes all the same.
#
# Seen:
#   asyncio: reading False, 0 bytes came
#   uvloop: reading True, 10 bytes came
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import asyncio

import uvloop


class Paused(asyncio.Protocol):
    came = 0

    def connection_made(self, transport):
        self.transport = transport
        transport.pause_reading()
        accepted.set_result(self)

    def data_received(self, data):
        self.came += len(data)


async def accept(name):
    global accepted
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()
    server = await loop.create_server(Paused, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"0123456789")
    one = await accepted
    await asyncio.sleep(0.5)
    print(f"{name}: reading {one.transport.is_reading()}, {one.came} bytes came")
    one.transport.abort()
    writer.close()
    server.close()


for name, factory in (("asyncio", None), ("uvloop", uvloop.new_event_loop)):
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(accept(name))
PY
