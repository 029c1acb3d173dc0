import { expect, test } from "vitest";

import { ByteTimes } from "./byte-times.ts";

test("marks are taken once, in the order of their bytes", () => {
  const times = new ByteTimes();
  times.add({ type: "times", offsets: [10, 20, 30], seconds: [1, 2, 3] });
  times.add({ type: "times", offsets: [5, 20], seconds: [9, 4] }); // of bytes from the archive
  expect(times.take(5)).toEqual([]);
  expect(times.take(21)).toEqual([
    { offset: 5, second: 9 },
    { offset: 10, second: 1 },
    { offset: 20, second: 2 },
    { offset: 20, second: 4 },
  ]);
  expect(times.take(100)).toEqual([{ offset: 30, second: 3 }]);
  times.add({ type: "times", offsets: [40], seconds: [5] });
  times.clear();
  expect(times.take(100)).toEqual([]);
});
