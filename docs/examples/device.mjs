// A whole device in one file, for browsers and for Node.js 22 or newer:
//   HEIWA_TOKEN=… node docs/examples/device.mjs ws://127.0.0.1:8080/ws [device:dog-1]
// With a channel it watches that, too, as an app does: then its token needs `location:read`.
// A browser cannot set headers, so the token is offered as a subprotocol; the server never repeats it.

const [url, channel] = process.argv.slice(2);
const NEVER_AGAIN = [1008, 4409]; // by policy; a newer connection of this device took over
const OPEN_MS = 15_000; // a handshake that takes longer has failed
const SILENCE_MS = 60_000; // the server is gone after this much silence
const STEADY_MS = 10_000; // a connection that lasted this long was a success
const MAX_OBEYED_MS = 3_600_000; // a longer wait is somebody's mistake
const stored = new Map(); // by id, oldest first: everything that is not acknowledged
const notBefore = new Map(); // by id: when a refused event may be sent again
const inFlight = new Set();
let failures = 0;

// Asked before each connection. The status of a refusal cannot be read here, so a device whose token may have expired
// fetches a new one after a few failures in a row.
const token = () => process.env.HEIWA_TOKEN;

// How long the server asks to wait: 0 where that is no number, an hour at most.
const wait = (ms) => (typeof ms === "number" && ms >= 0 ? Math.min(ms, MAX_OBEYED_MS) : 0);

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
      notBefore.set(id, performance.now() + wait(message.retry_after_ms));
    }
  }
  console.log(message.type, message.ids.length, message.durability ?? message.code);
}

// The one result of a command; carried out twice, `switch` does no harm.
function carriedOut({ id, name, args }) {
  const result = { type: "result", command: id };
  if (name === "switch" && args) return { ...result, ok: true, value: { on: args.on === true } };
  return { ...result, ok: false, error: { code: "unknown_command", message: "known is: switch" } };
}

function connect() {
  const socket = new WebSocket(url, ["heiwa.v1.json", `heiwa.bearer.${token()}`]);
  const began = performance.now();
  let maxEvents = 50; // one may send before `welcome`, which tells how much at once
  let [opened, heard, asked] = [Infinity, began, began];
  let [open, replaced, told] = [true, false, undefined];

  function receive(message) {
    heard = performance.now();
    if (message.type === "welcome") {
      console.log("connected as", message.connection);
      maxEvents = Math.max(1, message.max_events);
    } else if (message.type === "ack" || message.type === "nack") {
      answered(message);
    } else if (message.type === "goaway") {
      told = wait(message.reconnect_after_ms); // answers to what is on its way still come; then the server closes
      replaced = message.reason === "replaced";
    } else if (message.type === "command") {
      socket.send(JSON.stringify(carriedOut(message)));
      console.log("command", message.name);
    } else if (message.type === "subscribed" || message.type === "event") {
      console.log(message.channel, JSON.stringify(message.data ?? message.snapshot));
    } else if (message.type === "error") {
      console.log("the server says", message.code, message.message);
    }
  }

  function ended({ code, why }) {
    if (!open) return;
    open = false;
    clearInterval(ticking);
    inFlight.clear(); // not answered: all of it is sent again
    if (replaced || NEVER_AGAIN.includes(code)) {
      clearInterval(measuring);
      return;
    }
    if (performance.now() - opened >= STEADY_MS) failures = 0;
    // Full jitter, never without a wait: a fleet that lost its server together must not return together.
    const backOff = 100 + Math.random() * (Math.min(30_000, 1000 * 2 ** failures) - 100);
    failures = Math.min(failures + 1, 5);
    const waitMs = Math.max(backOff, told ?? 0);
    console.log("ended:", why ?? code ?? "an error", "- back in", Math.round(waitMs), "ms");
    setTimeout(connect, waitMs);
  }

  function giveUp(why) {
    ended({ why });
    socket.close();
  }

  const ticking = setInterval(() => {
    const now = performance.now();
    if (opened === Infinity) {
      if (now - began > OPEN_MS) giveUp("no answer");
    } else if (now - heard > SILENCE_MS) {
      giveUp("silence");
    } else if (told === undefined && socket.readyState === WebSocket.OPEN) {
      send(socket, maxEvents);
      if (now - asked > SILENCE_MS / 3) {
        asked = now;
        socket.send('{"type":"ping"}'); // pings of the protocol cannot be seen here; this one is answered
      }
    }
  }, 200);

  socket.onopen = () => {
    opened = heard = performance.now();
    // A snapshot comes with `subscribed`, and then each newer state as `event`.
    if (channel) socket.send(JSON.stringify({ type: "subscribe", channel }));
  };
  socket.onmessage = ({ data }) => {
    try {
      receive(JSON.parse(data));
    } catch (error) {
      giveUp(`unreadable: ${error.message}`);
    }
  };
  socket.onclose = ended; // 1006 for a refused handshake
  socket.onerror = ended; // some clients tell a failed connection this way only
}

connect();
