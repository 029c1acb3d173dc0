import { describe, expect, it } from "vitest";

import { Typist } from "./typist.ts";

describe("a typist", () => {
  it("numbers what is typed and keeps it until it is answered", () => {
    const typist = new Typist();
    typist.type("a");
    typist.type("b");
    typist.type("", true);
    expect(typist.unanswered.map((keys) => [keys.seq, keys.text, keys.interrupt])).toEqual([
      [1, "a", false],
      [2, "b", false],
      [3, "", true],
    ]);
    typist.answered(2);
    expect(typist.unanswered.map((keys) => keys.seq)).toEqual([3]);
  });

  it("splits a long paste between characters", () => {
    const text = "x".repeat(15_999) + "😀".repeat(3) + "end";
    const parts = new Typist().type(text).map((keys) => keys.text ?? "");
    expect(parts.join("")).toBe(text);
    expect(parts.length).toBe(2);
    expect(parts.map((part) => new TextDecoder().decode(new TextEncoder().encode(part)))).toEqual(parts);
  });

  it("has an id that is one", () => {
    expect(new Typist().clientId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});
