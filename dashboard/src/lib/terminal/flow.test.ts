import { expect, test } from "vitest";

import { Flow, type Place } from "./flow.ts";

const LIMITS = { high: 10, low: 4, bound: 20 };

/** An emulator that draws when it is told to. */
function emulator() {
  const given: string[] = [];
  const drawing: (() => void)[] = [];
  const log = { overflowed: 0, drained: 0 };
  const flow = new Flow(
    (data, drawn) => {
      if (data.byteLength > 0) given.push(new TextDecoder().decode(data));
      drawing.push(drawn);
    },
    { overflowed: () => (log.overflowed += 1), drained: () => (log.drained += 1) },
    LIMITS,
  );
  let offset = 0;
  const send = (text: string) => {
    const data = new TextEncoder().encode(text);
    offset += data.byteLength;
    flow.bytes(data, at(offset));
  };
  return { flow, given, log, send, draw: () => drawing.shift()?.(), drawing };
}

function at(offset: number, streamId = "s"): Place {
  return { streamId, offset };
}

test("bytes are handed over as they are, until too many are undrawn", () => {
  const { given, send, flow } = emulator();
  for (const text of ["aaaaa", "bbbbb", "ccccc"]) send(text);
  expect(given).toEqual(["aaaaa", "bbbbb"]);
  expect(flow.place).toEqual(at(10));
});

test("waiting bytes follow when the emulator has drawn down to the low mark", () => {
  const { given, send, draw } = emulator();
  for (const text of ["aaaaa", "bbbbb", "ccccc"]) send(text);
  draw();
  expect(given).toHaveLength(2);
  draw();
  expect(given).toEqual(["aaaaa", "bbbbb", "ccccc"]);
});

test("an action waits until all bytes before it are drawn, and later bytes wait for the action", () => {
  const { flow, given, send, draw } = emulator();
  send("aaaaa");
  let seen: string[] | null = null;
  flow.then(() => (seen = [...given]), at(0, "next"));
  flow.bytes(new TextEncoder().encode("b"), at(1, "next"));
  expect(given).toEqual(["aaaaa"]);
  draw();
  expect(seen).toBeNull(); // the emulator may still hold what an earlier action has written
  draw();
  expect(seen).toEqual(["aaaaa"]);
  expect(given).toEqual(["aaaaa", "b"]);
  expect(flow.place).toEqual(at(1, "next"));
});

test("an action without a place leaves the place to the bytes around it", () => {
  const { flow, send, draw } = emulator();
  send("aaaaaaaaaa");
  send("b");
  flow.then(() => undefined);
  draw();
  expect(flow.place).toEqual(at(11));
});

test("an overflow while an action waits is over when the action is done", () => {
  const { flow, send, log, draw } = emulator();
  let done = false;
  flow.then(() => (done = true));
  for (let i = 0; i < 3; i++) send("xxxxxxxxxx");
  expect(log).toEqual({ overflowed: 1, drained: 0 });
  draw();
  expect(done).toBe(true);
  expect(log.drained).toBe(1);
  expect(flow.place.offset).toBe(0);
});

test("after abandoning, old actions do not run and delay nothing", () => {
  const { flow, send, draw, given } = emulator();
  let done = false;
  flow.then(() => (done = true));
  flow.abandon();
  send("a");
  draw();
  expect(done).toBe(false);
  expect(given).toEqual(["a"]);
});

test("beyond the bound waiting bytes are dropped, and the place is the first byte that was not handed over", () => {
  const { flow, given, send, log, draw } = emulator();
  for (let i = 0; i < 5; i++) send("xxxxxxxxxx");
  expect(log).toEqual({ overflowed: 1, drained: 0 });
  expect(given).toHaveLength(1);
  expect(flow.place).toEqual(at(10));
  draw();
  expect(log.drained).toBe(1);
  flow.restart();
  flow.bytes(new TextEncoder().encode("y"), at(11));
  expect(given.at(-1)).toBe("y");
});

test("bytes after an overflow are ignored until the restart", () => {
  const { flow, send, draw, given } = emulator();
  for (let i = 0; i < 6; i++) send("xxxxxxxxxx");
  draw();
  expect(given).toHaveLength(1);
  expect(flow.place.offset).toBe(10);
});

test("bytes that an abandoned emulator still draws do not count", () => {
  const { flow, send, draw, given } = emulator();
  send("aaaaaaaaaa");
  flow.abandon();
  send("bbbbbbbbbb");
  draw();
  send("c");
  expect(given).toEqual(["aaaaaaaaaa", "bbbbbbbbbb"]);
});
