import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Confirmation } from "./confirmation.svelte.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("a confirmation", () => {
  test("acts at every second press of a button", () => {
    const confirmation = new Confirmation();
    const presses = [1, 2, 3, 4].map(() => [confirmation.press("stop"), confirmation.armed]);
    expect(presses).toEqual([
      [false, "stop"],
      [true, null],
      [false, "stop"],
      [true, null],
    ]);
  });

  test("arms another button when that is pressed, and disarms the first", () => {
    const confirmation = new Confirmation();
    expect([confirmation.press("restart"), confirmation.press("stop"), confirmation.armed]).toEqual([false, false, "stop"]);
    expect([confirmation.press("restart"), confirmation.armed]).toEqual([false, "restart"]);
  });

  test("starts again after it was disarmed", () => {
    const confirmation = new Confirmation();
    confirmation.press("stop");
    confirmation.disarm();
    expect([confirmation.armed, confirmation.press("stop")]).toEqual([null, false]);
  });

  test("stays armed without a time limit", () => {
    const confirmation = new Confirmation();
    confirmation.press("stop");
    vi.runAllTimers();
    vi.advanceTimersByTime(3_600_000);
    expect(confirmation.press("stop")).toBe(true);
  });

  test("forgets the first press after its time limit, counted from the last press", () => {
    const confirmation = new Confirmation(4000);
    confirmation.press("restart");
    vi.advanceTimersByTime(3000);
    confirmation.press("stop");
    vi.advanceTimersByTime(3999);
    expect(confirmation.armed).toBe("stop");
    vi.advanceTimersByTime(1);
    expect([confirmation.armed, confirmation.press("stop")]).toEqual([null, false]);
  });
});
