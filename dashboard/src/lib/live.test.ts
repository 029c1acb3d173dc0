import { expect, test } from "vitest";

import { Live, type Mark } from "./live.ts";

function marked() {
  const marks: [Mark, number | null][] = [];
  let now = 0;
  const live = new Live(
    (mark, until) => marks.push([mark, until]),
    () => now,
  );
  return { live, marks, at: (time: number) => (now = time) };
}

test("is live only when the socket is open, the channel joined, changes flow and a snapshot was read since", () => {
  const { live, marks } = marked();
  live.set({ socket: true });
  live.set({ joined: true });
  live.set({ flowing: true });
  expect(live.mark).toBe("connecting");
  live.set({ current: true });
  expect(marks).toEqual([["live", null]]);
});

test("a lost socket ends the other signals too, and reports until when the page was live", () => {
  const { live, marks, at } = marked();
  live.set({ socket: true, joined: true, flowing: true, current: true });
  at(42);
  live.set({ socket: false });
  live.set({ socket: true, joined: true });
  expect(live.mark).toBe("reconnecting");
  live.set({ flowing: true });
  expect(live.mark).toBe("reconnecting");
  live.set({ current: true });
  expect(marks).toEqual([
    ["live", null],
    ["reconnecting", 42],
    ["live", null],
  ]);
});

test("a snapshot that was read before changes flowed does not count", () => {
  const { live } = marked();
  live.set({ socket: true, joined: true, current: true });
  live.set({ flowing: true });
  expect(live.mark).toBe("connecting");
});

test("the browser going offline is enough", () => {
  const { live } = marked();
  live.set({ socket: true, joined: true, flowing: true, current: true });
  live.set({ online: false });
  expect(live.mark).toBe("reconnecting");
});
