import { expect, test } from "vitest";

import { Player, neighbour, type Source } from "./player.svelte.ts";
import { parsePieces, type Piece } from "./recording.ts";

const SIZES = [
  { start: 0, at: "", columns: 80, rows: 24 },
  { start: 6, at: "", columns: 100, rows: 30 },
];

/** A recording of these pieces, and an emulator that draws a little later, but clears and resizes at once. */
function setUp(texts: [number, string][], { window = Infinity, sizes = SIZES.slice(0, 1) } = {}) {
  const pieces: Piece[] = [];
  let start = 0;
  for (const [at, text] of texts) {
    const data = new TextEncoder().encode(text);
    pieces.push({ at, start, data });
    start += data.byteLength;
  }
  const end = start;
  const source: Source = {
    from: (from) =>
      Promise.resolve(
        pieces
          .filter((piece) => piece.start + piece.data.byteLength > from)
          .slice(0, window)
          .map((piece) => {
            const skip = Math.max(0, from - piece.start);
            return { at: piece.at, start: piece.start + skip, data: piece.data.subarray(skip) };
          }),
      ),
    modesAt: (offset) => Promise.resolve(`{modes at ${offset}}`),
    offsetAt: (ms) => Promise.resolve(pieces.find((piece) => piece.at >= ms)?.start ?? end),
  };
  let screen = "";
  const stamps: number[] = [];
  const player = new Player(
    { start: 0, end, began: pieces[0]?.at ?? 0, ended: pieces.at(-1)?.at ?? 0 },
    sizes,
    source,
    {
      stamp: (second) => stamps.push(second),
      write: (data, drawn) =>
        queueMicrotask(() => {
          screen += new TextDecoder().decode(data);
          drawn();
        }),
      clear: () => (screen = ""),
      setModes: (modes) => (screen += modes),
      resize: (size) => (screen += `<${size.columns}>`),
    },
  );
  const drawn = async () => {
    await settle();
    return screen.replaceAll("<80>", "");
  };
  return { player, stamps, screen: drawn };
}

const settle = () => new Promise((resolve) => setTimeout(resolve));

test("bytes are drawn when their time has come", async () => {
  const { player, stamps, screen } = setUp([[1000, "a"], [1500, "b"], [2200, "c"]]);
  player.toggle();
  player.tick(0);
  await settle();
  player.tick(100);
  expect(await screen()).toBe("a");
  player.tick(450);
  expect(await screen()).toBe("ab");
  player.speed = 2;
  player.tick(400);
  expect(await screen()).toBe("abc");
  expect(stamps).toEqual([1, 1, 2]);
  player.tick(10);
  expect(player.playing).toBe(false);
  expect(player.atEnd).toBe(true);
});

test("a long pause is skipped only if the viewer wants it", async () => {
  for (const [skip, speed] of [[true, 1], [true, 16], [false, 1]] as const) {
    const { player, screen } = setUp([[0, "a"], [60_000, "b"]]);
    player.skipIdle = skip;
    player.speed = speed;
    await player.seek({ offset: 1 });
    player.time = 0;
    player.playing = true;
    player.tick(10);
    player.tick(400);
    expect(await screen()).toBe(skip ? "ab" : "a");
  }
});

test("a seek shows the screen as it was, forward and back", async () => {
  const { player, screen } = setUp([[0, "one"], [1000, "two"], [2000, "three"]], { window: 1 });
  await player.seek({ offset: 4 });
  expect([await screen(), player.offset, player.time]).toEqual(["onet", 4, 1000]);
  await player.seek({ time: 2000 });
  expect([await screen(), player.offset]).toEqual(["onetwo", 6]);
  await player.seek({ offset: 0 });
  expect([await screen(), player.time]).toEqual(["", 0]);
  await player.seek({ offset: 99 });
  expect(await screen()).toBe("onetwothree");
});

test.each([
  ["within a piece", [[0, "before" + "after"]]],
  ["between two pieces", [[0, "before"], [0, "after"]]],
] as [string, [number, string][]][])("the size changes between the bytes where it changed, %s", async (_, texts) => {
  const { player, screen } = setUp(texts, { sizes: SIZES });
  await player.seek({ offset: 11 });
  expect(await screen()).toBe("before<100>after");
});

test("bytes after a seek are drawn in the modes in force there", async () => {
  const { player, screen } = setUp([[0, "1".repeat(1024 * 1024)], [1000, "22"]]);
  await player.seek({ offset: 1024 * 1024 + 2 });
  expect((await screen()).replaceAll("1", "")).toBe("{modes at 2}22");
  await player.seek({ offset: 2 });
  expect(await screen()).toBe("11");
});

test("the last of several seeks counts", async () => {
  const { player, screen } = setUp([[0, "one"], [1000, "two"], [2000, "three"]]);
  await Promise.all([player.seek({ offset: 11 }), player.seek({ offset: 3 }), player.seek({ offset: 6 })]);
  expect([await screen(), player.offset]).toEqual(["onetwo", 6]);
});

test("speeds go up and down within their bounds", () => {
  const { player } = setUp([[0, "a"]]);
  for (let i = 0; i < 9; i++) player.faster(1);
  expect(player.speed).toBe(16);
  for (let i = 0; i < 9; i++) player.faster(-1);
  expect(player.speed).toBe(0.5);
});

test("pieces are read from their bytes", () => {
  const body = new ArrayBuffer(12 + 3);
  const view = new DataView(body);
  view.setBigInt64(0, 1_777_982_400_000n, true);
  view.setUint32(8, 3, true);
  new Uint8Array(body, 12).set([1, 2, 3]);
  expect(parsePieces(body, 7)).toEqual([{ at: 1_777_982_400_000, start: 7, data: new Uint8Array([1, 2, 3]) }]);
});

test("the previous and the next command of an offset", () => {
  const commands = [0, 5, 9].map((output_start) => ({ output_start })) as Parameters<typeof neighbour>[0];
  expect(neighbour(commands, 5, 1)?.output_start).toBe(9);
  expect(neighbour(commands, 5, -1)?.output_start).toBe(0);
  expect(neighbour(commands, 9, 1)).toBeUndefined();
});
