import { Terminal } from "@xterm/headless";
import { describe, expect, test } from "vitest";

import { DARK } from "../terminal/themes.ts";
import { paletteColour, placed, runsOf } from "./cells.ts";
import { gridFor, layoutOf, pageOf } from "./layout.ts";
import { Painter, type Drawn } from "./painter.ts";

async function runsAfter(bytes: string): Promise<string[]> {
  const terminal = new Terminal({ cols: 20, rows: 2, allowProposedApi: true });
  await new Promise<void>((resolve) => terminal.write(bytes, resolve));
  const line = terminal.buffer.active.getLine(0);
  const cells = Array.from({ length: 20 }, (_, x) => line?.getCell(x)).filter((cell) => cell !== undefined);
  return runsOf(cells, DARK).map(({ column, text, fore, back, bold }) => [column, text.trimEnd(), fore, back ?? "", bold ? "bold" : ""].join("|"));
}

describe("a line of a tile", () => {
  const text = DARK.foreground ?? "";
  test.each<[string, string, string[]]>([
    ["plain text is one run", "make test", [`0|make test|${text}||`]],
    ["an empty line has none", "", []],
    ["a colour of the theme", "\x1b[31mno\x1b[0m yes", [`0|no|${DARK.red}||`, `2| yes|${text}||`]],
    ["bold", "\x1b[1mA", [`0|A|${text}||bold`]],
    ["inverse", "\x1b[7mA", [`0|A|${DARK.background}|${text}|`]],
    ["a colour of the palette", "\x1b[38;5;196mA", ["0|A|rgb(255 0 0)||"]],
    ["a colour by its parts, behind a space", "\x1b[48;2;1;2;3m \x1b[0m", [`0||${text}|rgb(1 2 3)|`]],
    ["wide characters stand alone, at their columns", "a漢b", [`0|a|${text}||`, `1|漢|${text}||`, `3|b|${text}||`]],
    ["hidden text is not drawn", "\x1b[8msecret", []],
  ])("%s", async (_, bytes, runs) => {
    expect(await runsAfter(bytes)).toEqual(runs);
  });

  test("the palette has a cube of colours and greys", () => {
    expect([16, 21, 231, 232, 255].map((index) => paletteColour(index, DARK))).toEqual([
      "rgb(0 0 0)", "rgb(0 0 255)", "rgb(255 255 255)", "rgb(8 8 8)", "rgb(238 238 238)",
    ]);
  });
});

test("a tile shows all columns that can be read, and the cursor's row where not all rows fit", () => {
  const cell = { width: 0.6, height: 1.2 };
  expect(placed({ width: 720, height: 600 }, { columns: 120, rows: 32, cursorRow: 0 }, cell)).toEqual({ fontSize: 10, first: 0, visible: 32 });
  expect(placed({ width: 720, height: 120 }, { columns: 120, rows: 32, cursorRow: 31 }, cell)).toEqual({ fontSize: 10, first: 22, visible: 10 });
  expect(placed({ width: 720, height: 120 }, { columns: 120, rows: 32, cursorRow: 12 }, cell)).toEqual({ fontSize: 10, first: 3, visible: 10 });
  expect(placed({ width: 10, height: 1 }, { columns: 500, rows: 4, cursorRow: 2 }, cell)).toEqual({ fontSize: 7, first: 2, visible: 1 });
});

test("the wall has pages, and a layout whatever the address says", () => {
  expect(layoutOf("6x4")).toEqual({ layout: "6x4", columns: 6, rows: 4 });
  expect(layoutOf("900x900")).toEqual(layoutOf(null));
  expect(gridFor("4x3", 5)).toMatchObject({ columns: 3, rows: 2 });
  expect(gridFor("2x2", 5)).toMatchObject({ columns: 2, rows: 2 });
  expect(gridFor("6x4", 99)).toMatchObject({ columns: 6, rows: 4 });
  expect(pageOf([1, 2, 3, 4, 5], 2, 2)).toEqual({ page: 2, pages: 3, shown: [5] });
  expect(pageOf([1, 2, 3], 2, 9)).toEqual({ page: 1, pages: 2, shown: [3] });
  expect(pageOf([], 4, 1)).toEqual({ page: 0, pages: 1, shown: [] });
});

describe("the painter", () => {
  let now = 0;
  let frames: (() => void)[] = [];
  const painter = (): Painter => {
    now = 0;
    frames = [];
    return new Painter(() => now, (callback) => frames.push(callback));
  };
  const frame = (): void => {
    now += 16;
    for (const callback of frames.splice(0)) callback();
  };

  test("draws each changed tile, in one frame no longer than its time, each in its turn", () => {
    const wall = painter();
    const drawn: number[] = [];
    const tiles: Drawn[] = [1, 2, 3, 4].map((id) => ({ draw: () => (drawn.push(id), (now += 3)) }));
    for (const tile of tiles) wall.changed(tile);
    frame();
    expect(drawn).toEqual([1, 2]);
    wall.changed(tiles[0] as Drawn);
    frame();
    expect(drawn).toEqual([1, 2, 3, 4]);
    for (let count = 0; count < 8; count += 1) frame();
    expect(drawn).toEqual([1, 2, 3, 4, 1]);
    expect(frames).toEqual([]);
  });

  test("draws a tile with output all the time at most twelve times a second, and none that has left", () => {
    const wall = painter();
    let drawings = 0;
    const tile: Drawn = { draw: () => (drawings += 1) };
    for (let count = 0; count < 63; count += 1) {
      wall.changed(tile);
      frame();
    }
    expect(drawings).toBeGreaterThanOrEqual(10);
    expect(drawings).toBeLessThanOrEqual(13);
    wall.left(tile);
    const before = drawings;
    for (let count = 0; count < 10; count += 1) frame();
    expect(drawings).toBe(before);
  });
});
