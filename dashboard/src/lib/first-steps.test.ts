import { describe, expect, test } from "vitest";

import { stepsOf } from "./first-steps.ts";

const NONE = { demo_seen: false, agent_connected: false, command_sent: false, request_answered: false };

describe("the first steps", () => {
  test.each([
    ["admin", ["demo", "connect", "send", "answer"]],
    ["operator", ["send", "answer"]],
    ["viewer", []],
    [undefined, []],
  ] as const)("of %s", (role, ids) => expect(stepsOf(role, NONE).map(({ id }) => id)).toEqual(ids));

  test("are ticked one by one", () => {
    const marks = stepsOf("admin", { ...NONE, demo_seen: true, command_sent: true }).map(({ done }) => done);
    expect(marks).toEqual([true, false, true, false]);
  });

  test("leave the demo out where the fleet began without it", () => {
    const ids = (seen: boolean) => stepsOf("admin", { ...NONE, agent_connected: true, demo_seen: seen }).map(({ id }) => id);
    expect(ids(false)).toEqual(["connect", "send", "answer"]);
    expect(ids(true)).toEqual(["demo", "connect", "send", "answer"]);
  });
});
