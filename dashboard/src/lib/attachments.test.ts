import { describe, expect, test } from "vitest";

import { MAX_BYTES, refusal, store } from "./attachments.ts";
import { Api } from "./api.ts";

describe("files of a prompt", () => {
  test("are refused in words when they are too many, too big or empty", () => {
    const file = (size: number) => ({ name: "a.txt", size });
    expect(refusal([file(MAX_BYTES)])).toBe(null);
    expect(refusal([file(MAX_BYTES), file(1)])).toContain("together");
    expect(refusal(Array.from({ length: 21 }, () => file(1)))).toBe("A prompt takes at most 20 files.");
    expect(refusal([file(0)])).toBe("a.txt is empty, or a folder.");
  });

  test("are sent with their names; images as images, all else as plain files", async () => {
    const sent: string[] = [];
    const fetcher = async (input: RequestInfo | URL) => {
      const request = input as Request;
      sent.push(`${new URL(request.url).search} ${request.headers.get("content-type")} ${await request.text()}`);
      return Response.json({ id: `id-${sent.length}` }, { status: 201 });
    };
    const tokens = { current: () => Promise.resolve("t"), renewed: () => Promise.resolve(null) };
    const api = new Api(tokens, fetcher as typeof fetch, "http://localhost");
    const files = [new File(["one"], "a b.png", { type: "image/png" }), new File(["two"], "x.svg", { type: "image/svg+xml" })];
    expect(await store(api, files)).toEqual(["id-1", "id-2"]);
    expect(sent).toEqual(["?name=a%20b.png image/png one", "?name=x.svg application/octet-stream two"]);
  });
});
