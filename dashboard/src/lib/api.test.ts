import { expect, test, vi } from "vitest";

import { Api, ApiError } from "./api.ts";

function api(...answers: (Response | Error)[]) {
  const fetcher = vi.fn<typeof fetch>(async () => {
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer ?? new Response(null, { status: 500 });
  });
  const tokens = { current: async () => "old", renewed: vi.fn(async (): Promise<string | null> => "new") };
  return { api: new Api(tokens, fetcher), fetcher, tokens };
}

function headers(call: unknown[] | undefined): Record<string, string> {
  return (call?.[1] as RequestInit).headers as Record<string, string>;
}

function authorization(call: unknown[] | undefined): unknown {
  return headers(call)["Authorization"];
}

test("a refused token is renewed and the request made again, once", async () => {
  const { api: client, fetcher } = api(new Response(null, { status: 401 }), Response.json({ agents: [] }));
  expect(await client.agents()).toEqual({ agents: [] });
  expect(fetcher.mock.calls.map(authorization)).toEqual(["Bearer old", "Bearer new"]);
});

test("without a new token the refusal stands", async () => {
  const { api: client, tokens, fetcher } = api(new Response(null, { status: 401 }));
  tokens.renewed.mockResolvedValue(null);
  await expect(client.agents()).rejects.toMatchObject({ status: 401 });
  expect(fetcher).toHaveBeenCalledTimes(1);
});

test("a problem's detail is what the person reads", async () => {
  const problem = { type: "about:blank", title: "Conflict", status: 409, detail: "The command is over: lost." };
  const answer = new Response(JSON.stringify(problem), {
    status: 409,
    headers: { "content-type": "application/problem+json" },
  });
  const { api: client } = api(answer);
  await expect(client.cancel("id")).rejects.toEqual(new ApiError(409, "The command is over: lost."));
});

test("no answer at all is an error of its own, which passes", async () => {
  const { api: client } = api(new TypeError("Failed to fetch"));
  await expect(client.me()).rejects.toMatchObject({ status: 0, isPassing: true });
});

test("all pages of a query are read", async () => {
  const { api: client, fetcher } = api(
    Response.json({ commands: [{ seq: 9 }], next_before: 9 }),
    Response.json({ commands: [{ seq: 3 }], next_before: null }),
  );
  expect(await client.allCommands({ state: "running" })).toEqual([{ seq: 9 }, { seq: 3 }]);
  expect(fetcher.mock.calls.map((call) => call[0])).toEqual([
    "/v1/commands?state=running&limit=200",
    "/v1/commands?state=running&limit=200&before=9",
  ]);
});

test("an answer that breaks off is an error that passes", async () => {
  const { api: client } = api(new Response('{"agents": [', { headers: { "content-type": "application/json" } }));
  await expect(client.agents()).rejects.toMatchObject({ status: 0, isPassing: true });
});

test("what makes something is sent again with its key when the answer is lost, and only then", async () => {
  const { api: client, fetcher } = api(new TypeError("Failed to fetch"), Response.json({ id: "made" }));
  expect(await client.send("agent", { text: "ls" })).toEqual({ id: "made" });
  const keys = fetcher.mock.calls.map((call) => headers(call)["Idempotency-Key"]);
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(keys).toEqual([keys[0], keys[0]]);
  await expect(client.send("agent", { text: "ls" })).rejects.toMatchObject({ status: 500 });
  expect(fetcher).toHaveBeenCalledTimes(3);
  expect(headers(fetcher.mock.calls[2])["Idempotency-Key"]).not.toBe(keys[0]);
});

test("what makes nothing has no key and is not sent again", async () => {
  const { api: client, fetcher } = api(new TypeError("Failed to fetch"));
  await expect(client.cancel("id", { reason: "wrong branch" })).rejects.toMatchObject({ status: 0 });
  expect(fetcher).toHaveBeenCalledTimes(1);
  expect(headers(fetcher.mock.calls[0])["Idempotency-Key"]).toBeUndefined();
  expect((fetcher.mock.calls[0]?.[1] as RequestInit).body).toBe('{"reason":"wrong branch"}');
});

/** A body that comes in these parts, and then breaks off if it is `cut`. */
function body(parts: string[], cut = false): ReadableStream<Uint8Array> {
  const left = parts.map((part) => new TextEncoder().encode(part));
  return new ReadableStream({
    pull(controller) {
      const part = left.shift();
      if (part !== undefined) controller.enqueue(part);
      else if (cut) controller.error(new TypeError("network error"));
      else controller.close();
    },
  });
}

test("a file is whole, and what is here of it is told meanwhile", async () => {
  const { api: client } = api(new Response(body(["abc", "defgh"])));
  const told: number[] = [];
  const file = await client.download("/v1/audit/export", (bytes) => told.push(bytes));
  expect(await file.text()).toBe("abcdefgh");
  expect(told).toEqual([3, 8]);
});

test("a file that breaks off is none", async () => {
  const { api: client } = api(new Response(body(["abc"], true)));
  await expect(client.download("/v1/audit/export", () => {})).rejects.toEqual(
    new ApiError(0, "The server's answer was cut off."),
  );
});
