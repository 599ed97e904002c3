// Peer: Node ws with a ping each 25 s, no compression. Prints `ready PORT`.
const { createServer } = require("node:http");
const { WebSocketServer } = require("ws");

const server = createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: 131072 });

sockets.on("connection", (socket) => {
  socket.alive = true;
  socket.on("pong", () => (socket.alive = true));
  socket.on("message", (data, binary) => socket.send(data, { binary }));
});

// As the documentation of ws shows it: one timer for all, a second without an answer ends a connection.
let turn = 0;
setInterval(() => {
  turn = (turn + 1) % 25;
  let index = 0;
  for (const socket of sockets.clients) {
    if (index++ % 25 !== turn) continue;
    if (!socket.alive) socket.terminate();
    else {
      socket.alive = false;
      socket.ping();
    }
  }
}, 1000);

server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => console.log("ready", server.address().port));
