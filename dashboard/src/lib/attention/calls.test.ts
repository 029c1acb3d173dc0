import { describe, expect, test } from "vitest";

import { type Api, ApiError } from "../api.ts";
import type { AttentionRequest } from "../rest.ts";
import { answerTogether, type Given } from "./calls.ts";

const GIVEN: Given = { decision: { decision: "allow" }, scope: "once", rule: null };
const ROWS = Array.from({ length: 60 }, (_, n) => ({ id: `id-${n}`, digest: `digest-${n}` }) as AttentionRequest);

interface Sent {
  body: { answers: { id: string }[] };
}

/** A server that answers so many requests, and counts the answers of each. */
function server(takes: number): { api: Api; counts: number[] } {
  const counts: number[] = [];
  const post = (_path: string, { body: { answers } }: Sent): Promise<unknown> => {
    if (counts.length === takes) return Promise.reject(new ApiError(0, "The server does not answer."));
    counts.push(answers.length);
    return Promise.resolve({ results: answers.map(({ id }) => ({ id, request: { id }, problem: null })) });
  };
  return { api: { post } as unknown as Api, counts };
}

describe("the same answer for many requests", () => {
  test("is sent a few at a time, and each has its result", async () => {
    const { api, counts } = server(9);
    const results = await answerTogether(api, ROWS, GIVEN);
    expect(counts).toEqual([25, 25, 10]);
    expect(results.map(({ id }) => id)).toEqual(ROWS.map(({ id }) => id));
    expect(results.every(({ row, problem }) => row !== null && problem === "")).toBe(true);
  });

  test("keeps the results so far when the server stops answering", async () => {
    const results = await answerTogether(server(1).api, ROWS, GIVEN);
    expect(results.filter(({ row }) => row !== null)).toHaveLength(25);
    expect(results.filter(({ problem }) => problem === "The server does not answer.")).toHaveLength(35);
  });

  test("fails as a whole when the server answers nothing", async () => {
    await expect(answerTogether(server(0).api, ROWS, GIVEN)).rejects.toThrow("The server does not answer.");
  });
});
