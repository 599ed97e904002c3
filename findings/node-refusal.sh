#!/usr/bin/env bash
# Node.js 20.20.2, its built-in WebSocket (--experimental-websocket): a handshake that is refused fires `error` and never
# `close`, though the standard has both. A client that reconnects in onclose stays away for ever. undici 7.30.2, the same
# code later, fires both.
#
# Seen:
#   built-in: error
#   undici: error close
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
here=$(realpath "$0")
[ "$(node --version)" = v20.20.2 ] || { echo "this is about Node.js 20.20.2, here is $(node --version)" >&2; exit 1; }
cd "$work"; npm install --silent --no-audit --no-fund undici@7.30.2 >/dev/null
cat >main.mjs <<'JS'
import { createServer } from "node:http";
import { WebSocket as Undici } from "undici";

const server = createServer((_, response) => response.end());
server.on("upgrade", (_, socket) => socket.end("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"));
server.listen(0, "127.0.0.1", async () => {
  for (const [name, kind] of [["built-in", WebSocket], ["undici", Undici]]) {
    const fired = [];
    const socket = new kind(`ws://127.0.0.1:${server.address().port}/`);
    for (const event of ["error", "close"]) socket.addEventListener(event, () => fired.push(event));
    await new Promise((done) => setTimeout(done, 1500));
    console.log(`${name}: ${fired.join(" ")}`);
  }
  process.exit();
});
JS
node --no-warnings --experimental-websocket main.mjs | diff - <(sed -n 's/^#   //p' "$here")
