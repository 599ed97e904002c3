#!/usr/bin/env bash
# libwebsockets 4.1.6 (Debian 12): the close code 1012 is handed to the program as 1002, "protocol error", with the server's
# reason kept; 1001 and 4000 come as they are.
#
# Seen:
#   sent 1001: told 1001 bye
#   sent 1012: told 1002 bye
#   sent 4000: told 4000 bye
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat >"$work/client.c" <<'C'
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>

static int over;

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t bytes) {
    if (reason == LWS_CALLBACK_WS_PEER_INITIATED_CLOSE) {
        unsigned char *data = in;
        printf("told %d %.*s\n", data[0] << 8 | data[1], (int)bytes - 2, data + 2);
    }
    if (reason == LWS_CALLBACK_CLIENT_CLOSED || reason == LWS_CALLBACK_CLIENT_CONNECTION_ERROR) over = 1;
    return lws_callback_http_dummy(wsi, reason, user, in, bytes);
}

int main(int argc, char **argv) {
    static const struct lws_protocols protocols[] = {{"x", on_event, 0, 0, 0, NULL, 0}, {0}};
    struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols};
    lws_set_log_level(0, NULL);
    struct lws_context *context = lws_create_context(&info);
    struct lws_client_connect_info to = {.context = context, .address = "127.0.0.1", .host = "x", .path = "/",
                                         .port = argc > 1 ? atoi(argv[1]) : 0, .protocol = "x"};
    lws_client_connect_via_info(&to);
    for (int i = 0; i < 1000 && !over; i++) lws_service(context, 0);
    lws_context_destroy(context);
    return 0;
}
C
cc -o "$work/client" "$work/client.c" -lwebsockets
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check websockets==17.4
"$work/v/bin/python" - "$work/client" <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import asyncio
import sys

from websockets.asyncio.server import serve


async def main():
    for code in (1001, 1012, 4000):

        async def close(connection, code=code):
            await connection.close(code, "bye")

        async with serve(close, "127.0.0.1", 0, subprotocols=["x"]) as server:
            port = server.sockets[0].getsockname()[1]
            client = await asyncio.create_subprocess_exec(sys.argv[1], str(port), stdout=asyncio.subprocess.PIPE)
            told, _ = await asyncio.wait_for(client.communicate(), 10)
            print(f"sent {code}: {told.decode().strip()}")


asyncio.run(main())
PY
