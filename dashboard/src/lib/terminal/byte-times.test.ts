import { expect, test } from "vitest";

import { ByteTimes } from "./byte-times.ts";

test("marks are taken once, in the order of their bytes", () => {
  const times = new ByteTimes();
  times.add({ type: "times", offsets: [10, 20, 30], seconds: [1, 2, 3], exact_from: 0 });
  times.add({ type: "times", offsets: [5, 20], seconds: [9, 4], exact_from: 10 }); // of bytes from the archive
  expect(times.take(5)).toEqual([]);
  expect(times.take(21)).toEqual([
    { offset: 5, second: 9, about: true },
    { offset: 10, second: 1, about: false },
    { offset: 20, second: 2, about: false },
    { offset: 20, second: 4, about: false },
  ]);
  expect(times.take(100)).toEqual([{ offset: 30, second: 3, about: false }]);
  times.add({ type: "times", offsets: [40], seconds: [5], exact_from: 0 });
  times.clear();
  expect(times.take(100)).toEqual([]);
});
