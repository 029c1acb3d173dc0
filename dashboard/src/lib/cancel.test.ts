import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Api } from "./api.ts";
import { Cancel } from "./cancel.svelte.ts";
import type { Command } from "./rest.ts";

const COMMAND = { id: "c1", state: "running", cancel_requested_at: null } as Command;
const OTHER = { ...COMMAND, id: "c2" };

let asked: string[];
let cancel: Cancel;

beforeEach(() => {
  vi.useFakeTimers();
  asked = [];
  const tokens = { current: async () => "token", renewed: async () => null };
  const api = new Api(tokens, fetch, "http://server");
  api.post = (async (_path: string, { params }: { params: { path: { command_id: string } } }) => {
    const id = params.path.command_id;
    asked.push(id);
    return { ...COMMAND, id };
  }) as Api["post"];
  cancel = new Cancel(api, () => undefined);
});

afterEach(() => void vi.useRealTimers());

describe("cancelling", () => {
  test("takes two presses", async () => {
    await cancel.press(COMMAND);
    expect([cancel.armed, asked]).toEqual(["c1", []]);
    await cancel.press(COMMAND);
    expect([cancel.armed, asked]).toEqual([null, ["c1"]]);
  });

  test("forgets the first press after four seconds", async () => {
    await cancel.press(COMMAND);
    vi.advanceTimersByTime(3999);
    expect(cancel.armed).toBe("c1");
    vi.advanceTimersByTime(1);
    expect(cancel.armed).toBe(null);
    await cancel.press(COMMAND);
    expect(asked).toEqual([]);
  });

  test("arms another command when its button is pressed", async () => {
    await cancel.press(COMMAND);
    await cancel.press(OTHER);
    expect([cancel.armed, asked]).toEqual(["c2", []]);
  });

  test("goes on for one command while another's is not answered yet", async () => {
    await cancel.press(COMMAND);
    const first = cancel.press(COMMAND);
    await cancel.press(OTHER);
    expect(cancel.armed).toBe("c2");
    await Promise.all([first, cancel.press(OTHER)]);
    expect([asked, cancel.sending.size]).toEqual([["c1", "c2"], 0]);
  });

  test("is no longer possible once it was requested", async () => {
    for (const over of [{ ...COMMAND, cancel_requested_at: "2026-01-01T00:00:00Z" }, { ...COMMAND, state: "succeeded" as const }]) {
      await cancel.press(over);
      expect(cancel.armed).toBe(null);
    }
  });
});
