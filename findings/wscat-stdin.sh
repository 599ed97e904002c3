#!/usr/bin/env bash
# wscat 6.1.0: with standard input at its end it exits 0 before it has connected, here to a server that accepts and never
# answers. In a cron job or in CI a check with it says nothing.
#
# Seen:
#   input at its end: exit 0
#   input that stays open: still waiting
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
(cd "$work" && npm install --silent --no-audit --no-fund wscat@6.1.0 >/dev/null)
python3 - "$work/node_modules/.bin/wscat" <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import socket
import subprocess
import sys

with socket.create_server(("127.0.0.1", 0)) as silent:
    command = [sys.argv[1], "-c", f"ws://127.0.0.1:{silent.getsockname()[1]}/ws", "-x", "hello"]
    for name, stdin in (("at its end", subprocess.DEVNULL), ("that stays open", subprocess.PIPE)):
        client = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            print(f"input {name}: exit {client.wait(10)}")
        except subprocess.TimeoutExpired:
            print(f"input {name}: still waiting")
            client.kill()
PY
