// Groups of the public suite of the Durable Streams protocol, against the server at URL; `vitest -t` chooses them.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.URL, longPollTimeoutMs: 500 });
