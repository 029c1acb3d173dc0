import { describe, expect, it } from "vitest";

import { visible } from "./visible.ts";

describe("a foreign text", () => {
  it("shows every control, invisible and bidirectional character by its number", () => {
    const left: string[] = [];
    for (let code = 0; code <= 0x10ffff; code++) {
      const character = String.fromCodePoint(code);
      if (!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}]/u.test(character)) continue;
      if ("\n\t\r".includes(character)) continue;
      if (!/^x\\[xuU][0-9a-f]+y$/.test(visible(`x${character}y`))) left.push(code.toString(16));
    }
    expect(left).toEqual([]);
  });

  it("stays as it is when all of it can be seen", () => {
    for (const text of ["déjà vu", "שלום", "مرحبا", "日本語", "❤\ufe0f 👩\u200d💻 👍🏽 3\ufe0f\u20e3", "two\nlines\tof it"]) {
      expect(visible(text)).toBe(text);
    }
  });

  it("is shown with its parts in the order in which they are", () => {
    expect(visible("gro.\u202ekcatta")).toBe("gro.\\u202ekcatta");
    expect(visible("x \x1b]0;owned\x07")).toBe("x \\x1b]0;owned\\x07");
    expect(visible("a\u200db ❤\ufe0f\ufe0f")).toBe("a\\u200db ❤\ufe0f\\ufe0f");
  });

  it("leaves other values alone", () => {
    expect(visible(null)).toBe(null);
    expect(visible(7)).toBe(7);
  });
});
