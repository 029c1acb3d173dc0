import { describe, expect, it } from "vitest";

import { harmless, lineCount } from "./paste.ts";

describe("a pasted text", () => {
  it("has no control character but tabs and line ends", () => {
    const all = String.fromCharCode(...Array.from({ length: 0x180 }, (_, code) => code));
    const left = [...harmless(all)].filter((character) => /\p{Cc}/u.test(character));
    expect(left).toEqual(["\t", "\n", "\r"]);
    expect(harmless(all).length).toBe(all.length);
  });

  it("cannot end the paste, interrupt the program or move its cursor", () => {
    expect(harmless("a\x1b[201~rm -rf\r")).toBe("a␛[201~rm -rf\r");
    expect(harmless("one\x03\x04\x7f\x9b2J")).toBe("one␃␄␡\ufffd2J");
  });

  it("stays as it is without them", () => {
    for (const text of ["two\r\nlines\tof it", "日本語 👩\u200d💻", "\u00a0\u2028"]) expect(harmless(text)).toBe(text);
  });

  it("has as many lines as it ends or begins", () => {
    expect(["", "a", "a\n", "a\r\n", "a\nb", "a\r\rb\n"].map(lineCount)).toEqual([1, 1, 1, 1, 2, 3]);
  });
});
