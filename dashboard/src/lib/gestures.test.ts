import { expect, test } from "vitest";

import { pinched, swiped } from "./gestures.ts";

test("a swipe is long, level and quick", () => {
  const from = { x: 200, y: 300 };
  expect(swiped(from, { x: 100, y: 310 }, 200)).toBe(1);
  expect(swiped(from, { x: 300, y: 290 }, 200)).toBe(-1);
  expect(swiped(from, { x: 150, y: 300 }, 200), "too short").toBe(0);
  expect(swiped(from, { x: 100, y: 380 }, 200), "a scroll").toBe(0);
  expect(swiped(from, { x: 100, y: 310 }, 900), "too slow").toBe(0);
});

test("a pinch is a clear change of the distance", () => {
  expect(pinched(100, 130)).toBe("apart");
  expect(pinched(130, 100)).toBe("together");
  expect(pinched(100, 110)).toBe(null);
  expect(pinched(0, 110), "there was one finger").toBe(null);
});
