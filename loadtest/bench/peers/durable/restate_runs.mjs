// Two-step durable handlers of Restate, called over its ingress.
// `node restate_runs.mjs INGRESS ADMIN RUNS AT_ONCE`, one line of JSON.
import http from "node:http";
import * as restate from "@restatedev/restate-sdk";

// Node 20 has none, and the SDK uses it.
Promise.withResolvers ??= () => {
  const found = {};
  found.promise = new Promise((resolve, reject) => Object.assign(found, { resolve, reject }));
  return found;
};
const [ingress, admin, runs, atOnce] = process.argv.slice(2);
const work = async (value) => value + 1;
const bench = restate.service({
  name: "bench",
  handlers: {
    two: async (context, value) => {
      const first = await context.run("first", () => work(value));
      return context.run("second", () => work(first));
    },
  },
});
const agent = new http.Agent({ keepAlive: true, maxSockets: Number(atOnce) });

function post(url, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      url,
      { method: "POST", agent, headers: { "Content-Type": "application/json" } },
      (answer) => {
        let text = "";
        answer.on("data", (part) => (text += part));
        answer.on("end", () => resolve({ status: answer.statusCode, text }));
      },
    );
    request.on("error", reject);
    request.end(JSON.stringify(body));
  });
}

async function play(count) {
  let next = 0;
  const one = async () => {
    while (next < count) {
      const number = next++;
      const answer = await post(`${ingress}/bench/two`, number);
      if (answer.text !== String(number + 2)) throw new Error(answer.text);
    }
  };
  await Promise.all(Array.from({ length: Number(atOnce) }, one));
}

const port = await restate.serve({ services: [bench], port: 0 });
for (let left = 100; left > 0; left--) {
  try {
    if ((await post(`${admin}/deployments`, { uri: `http://127.0.0.1:${port}` })).status < 300) break;
  } catch {}
  await new Promise((resolve) => setTimeout(resolve, 200));
}
await play(50);
const before = process.cpuUsage();
const began = performance.now();
await play(Number(runs));
const seconds = (performance.now() - began) / 1000;
const used = process.cpuUsage(before);
const cpu_ms = (used.user + used.system) / 1000 / runs;
console.log(JSON.stringify({ runs: Number(runs), runs_per_s: runs / seconds, cpu_ms, seconds }));
process.exit(0);
