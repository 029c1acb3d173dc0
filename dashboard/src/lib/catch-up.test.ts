import { expect, test } from "vitest";

import { CatchUp } from "./catch-up.ts";

function recorded() {
  const log: string[] = [];
  return { log, catchUp: new CatchUp<string>((change) => log.push(change)) };
}

test("a change is applied at once while no snapshot is read", () => {
  const { log, catchUp } = recorded();
  catchUp.change("a");
  expect(log).toEqual(["a"]);
});

test("changes that arrive during a snapshot are applied after it, in their order", async () => {
  const { log, catchUp } = recorded();
  const read = catchUp.read(
    async () => "snapshot",
    (snapshot) => log.push(snapshot),
  );
  catchUp.change("a");
  catchUp.change("b");
  await read;
  expect(log).toEqual(["snapshot", "a", "b"]);
});

test("changes wait for the last of two readings", async () => {
  const { log, catchUp } = recorded();
  let finish: (value: string) => void = () => undefined;
  const slow = catchUp.read(
    () => new Promise<string>((resolve) => (finish = resolve)),
    (snapshot) => log.push(snapshot),
  );
  catchUp.change("a");
  await catchUp.read(
    async () => "quick",
    (snapshot) => log.push(snapshot),
  );
  finish("slow");
  await slow;
  expect(log).toEqual(["quick", "slow", "a"]);
});

test("a failed reading loses no change", async () => {
  const { log, catchUp } = recorded();
  const read = catchUp.read(
    () => Promise.reject(new Error("no answer")),
    () => log.push("never"),
  );
  catchUp.change("a");
  await expect(read).rejects.toThrow("no answer");
  expect(log).toEqual(["a"]);
});
