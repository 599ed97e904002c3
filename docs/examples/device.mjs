// A whole device in one file, for browsers and for Node.js 22 or newer:
//   HEIWA_TOKEN=… node docs/examples/device.mjs ws://127.0.0.1:8080/ws
// A browser cannot set headers, so the token is offered as a subprotocol; the server never repeats it.

const [url, token] = [process.argv[2], process.env.HEIWA_TOKEN];
const NEVER_AGAIN = [1008, 4409];
const NEW_TOKEN = [4401, 4403];
const stored = new Map(); // by id, oldest first: everything that is not acknowledged
const notBefore = new Map(); // by id: when a refused event may be sent again
const inFlight = new Set();
let failures = 0;

const measuring = setInterval(() => {
  const event = { id: crypto.randomUUID(), time: Date.now(), lat: 35.0116, lon: 135.7681 };
  stored.set(event.id, event);
}, 1000);

function send(socket, maxEvents) {
  const now = performance.now();
  const due = [...stored.values()].filter((e) => !inFlight.has(e.id) && (notBefore.get(e.id) ?? 0) <= now);
  if (due.length === 0) return;
  const events = due.slice(0, maxEvents);
  for (const event of events) inFlight.add(event.id);
  socket.send(JSON.stringify({ type: "locations", events }));
}

function answered(message) {
  for (const id of message.ids) {
    inFlight.delete(id);
    if (message.type === "ack" || message.retry_after_ms === undefined) {
      stored.delete(id);
      notBefore.delete(id);
    } else {
      notBefore.set(id, performance.now() + message.retry_after_ms);
    }
  }
  console.log(message.type, message.ids.length, message.durability ?? message.code);
}

function connect() {
  const socket = new WebSocket(url, ["heiwa.v1.json", `heiwa.bearer.${token}`]);
  let open = true;
  let sending;
  let waitMs;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "welcome") {
      console.log("connected as", message.connection);
      failures = 0;
      sending = setInterval(send, 200, socket, message.max_events);
    } else if (message.type === "ack" || message.type === "nack") {
      answered(message);
    } else if (message.type === "goaway") {
      clearInterval(sending); // answers to what is on its way still come; then the server closes
      waitMs = message.reconnect_after_ms;
    } else if (message.type === "error") {
      console.log("the server says", message.code, message.message);
    }
  };
  const ended = ({ code }) => {
    if (!open) return;
    open = false;
    clearInterval(sending);
    inFlight.clear(); // not answered: all of it is sent again
    if (NEVER_AGAIN.includes(code) || NEW_TOKEN.includes(code)) {
      clearInterval(measuring); // a device that can get a new token does so after 4401 and 4403
      return;
    }
    // A refused handshake looks like a broken connection here (1006): the status cannot be read from a browser.
    waitMs ??= Math.random() * Math.min(30_000, 1000 * 2 ** failures++);
    console.log("closed with", code ?? "an error", "- back in", Math.round(waitMs), "ms");
    setTimeout(connect, waitMs);
  };
  socket.onclose = ended;
  socket.onerror = ended; // some clients tell a failed connection this way only
}

connect();
