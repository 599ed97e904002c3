#!/usr/bin/env bash
# websocket-client 1.9.2 (Python): it sends an Origin header that nobody asked for, made of the server's own address. A server
# that checks origins takes the program for a page; suppress_origin=True leaves it out.
#
# Seen:
#   by default: http://127.0.0.1:PORT
#   suppress_origin=True: none
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"
"$work/v/bin/pip" install -q --disable-pip-version-check websocket-client==1.9.2
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import socket
import threading

import websocket


def request(**options):
    """The request that the client sends to a server that answers nothing good."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        seen = []

        def serve():
            connection, _ = listener.accept()
            seen.append(connection.recv(4096).decode())
            connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            websocket.create_connection(f"ws://127.0.0.1:{port}/", timeout=5, **options)
        except websocket.WebSocketException:
            pass
        thread.join()
    lines = [line for line in seen[0].split("\r\n") if line.lower().startswith("origin:")]
    return lines[0].partition(": ")[2].replace(str(port), "PORT") if lines else "none"


print("by default:", request())
print("suppress_origin=True:", request(suppress_origin=True))
PY
