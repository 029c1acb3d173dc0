import { expect, it, vi } from "vitest";

import { ApiError } from "./api.ts";
import { askWhenSettled } from "./settled.ts";

it("sends one request after the last change, and ignores answers to older requests", async () => {
  vi.useFakeTimers();
  try {
    const told: string[] = [];
    const ask = (question: () => Promise<string>) => askWhenSettled(question, (text) => told.push(text), (why) => told.push(why));
    ask(() => Promise.resolve("too early"))();
    const old = ask(() => Promise.resolve("old"));
    vi.advanceTimersByTime(1000);
    old();
    ask(() => Promise.resolve("new"));
    ask(() => Promise.reject(new ApiError(0, "no answer")));
    await vi.advanceTimersByTimeAsync(1000);
    expect(told).toEqual(["new", "no answer"]);
  } finally {
    vi.useRealTimers();
  }
});
