import { describe, expect, it } from "vitest";

import type { Keys } from "../protocol.ts";
import { Typist } from "./typist.ts";

const PART = 16_000;
const PASTE = "1".repeat(PART) + "2".repeat(PART) + "3".repeat(PART);

const sent = (messages: Keys[]) => messages.map((keys) => [keys.seq, keys.text?.at(0) ?? ""]);
const typed = (seq: number) => ({ seq, refused: null });

describe("a typist", () => {
  it("numbers its messages and keeps each until it is answered", () => {
    const typist = new Typist();
    typist.type("a");
    typist.type("b");
    typist.interrupt();
    expect(typist.unanswered.map((keys) => [keys.seq, keys.text, keys.interrupt])).toEqual([
      [1, "a", false],
      [2, "b", false],
      [3, "", true],
    ]);
    typist.answered({ seq: 2, refused: "not_in_control" });
    expect(typist.unanswered.map((keys) => keys.seq)).toEqual([1, 3]);
  });

  it("sends a long paste part by part, and later keys after it", () => {
    const typist = new Typist();
    expect(sent(typist.type("a"))).toEqual([[1, "a"]]);
    expect(sent(typist.type(PASTE))).toEqual([[2, "1"]]);
    expect(typist.type("b")).toEqual([]);
    expect(typist.answered(typed(1))).toEqual([]);
    expect(sent(typist.answered(typed(2)))).toEqual([[3, "2"]]);
    expect(typist.answered(typed(2))).toEqual([]); // it came again, and so did its answer
    expect(sent(typist.answered(typed(3)))).toEqual([[4, "3"], [5, "b"]]);
    expect(typist.answered(typed(4))).toEqual([]);
    expect(typist.unanswered.map((keys) => keys.seq)).toEqual([5]);
  });

  it("ends a paste at a rejected part, and no other paste", () => {
    const typist = new Typist();
    typist.type("a");
    typist.type(PASTE);
    typist.type("b");
    expect(typist.answered({ seq: 1, refused: "too_much" })).toEqual([]);
    expect(sent(typist.answered(typed(2)))).toEqual([[3, "2"]]);
    expect(sent(typist.answered({ seq: 3, refused: "too_much" }))).toEqual([[4, "b"]]);
    expect(typist.answered(typed(4))).toEqual([]);
  });

  it("interrupts at once, and drops the text that was not sent", () => {
    const typist = new Typist();
    typist.type(PASTE);
    typist.type("b");
    expect(typist.interrupt()).toMatchObject({ seq: 2, interrupt: true });
    expect(typist.answered(typed(1))).toEqual([]);
    expect(typist.answered(typed(2))).toEqual([]);
  });

  it("types nothing later of what was not answered when the person left", () => {
    const typist = new Typist();
    typist.type(PASTE);
    typist.forget();
    expect(typist.unanswered).toEqual([]);
    expect(typist.answered(typed(1))).toEqual([]);
    expect(sent(typist.type("b"))).toEqual([[2, "b"]]);
  });

  it("splits between characters", () => {
    const text = "x".repeat(PART - 1) + "😀".repeat(3) + "end";
    const typist = new Typist();
    const parts = [...typist.type(text), ...typist.answered(typed(1))].map((keys) => keys.text ?? "");
    expect(parts.join("")).toBe(text);
    expect(parts.length).toBe(2);
    expect(parts.map((part) => new TextDecoder().decode(new TextEncoder().encode(part)))).toEqual(parts);
  });

  it("has a valid id", () => {
    expect(new Typist().clientId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});
