// Runs supabase-js for the Python tests: reads {"id", "code", "args"} lines, runs the code as the body of an
// asynchronous function, and writes {"id", "result"} or {"id", "error"}. An event that the code emits is written as
// {"event", "data"}. `state` is kept as long as the process runs.
import { createInterface } from "node:readline";
import { createClient } from "@supabase/supabase-js";

const AsyncFunction = (async () => {}).constructor;
const state = {};

const send = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const emit = (event, data) => send({ event, data: data ?? null });
console.log = console.error; // Standard output carries only the protocol.

process.on("unhandledRejection", (reason) => emit("unhandledRejection", String(reason?.stack ?? reason)));

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const { id, code, args } = JSON.parse(line);
    try {
      const body = new AsyncFunction("args", "state", "emit", "createClient", code);
      send({ id, result: (await body(args, state, emit, createClient)) ?? null });
    } catch (error) {
      send({ id, error: String(error?.stack ?? error) });
    }
  })
  .on("close", () => process.exit(0));
