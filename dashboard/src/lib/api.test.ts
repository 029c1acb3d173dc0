import { expect, test, vi } from "vitest";

import { Api, ApiError } from "./api.ts";

const ID = { params: { path: { command_id: "c/1" } } };
const COMMAND = { params: { path: { agent_id: "agent" } }, body: { text: "ls" } };
const EXPORT = { params: { query: { format: "csv" } } } as const;

function api(...answers: (Response | Error)[]) {
  const fetcher = vi.fn<typeof fetch>(async () => {
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer ?? new Response(null, { status: 500 });
  });
  const tokens = { current: async () => "old", renewed: vi.fn(async (): Promise<string | null> => "new") };
  return { api: new Api(tokens, fetcher, "http://server"), fetcher, tokens };
}

/** The request of a call of `fetch`. */
function sent(call: unknown[] | undefined): Request {
  return call?.[0] as Request;
}

function header(call: unknown[] | undefined, name: string): string | null {
  return sent(call).headers.get(name);
}

test("a rejected token is renewed, and the request is sent once more", async () => {
  const { api: client, fetcher } = api(new Response(null, { status: 401 }), Response.json({ agents: [] }));
  expect(await client.get("/v1/agents")).toEqual({ agents: [] });
  expect(fetcher.mock.calls.map((call) => header(call, "Authorization"))).toEqual(["Bearer old", "Bearer new"]);
});

test("with a new token the body is sent again", async () => {
  const { api: client, fetcher } = api(new Response(null, { status: 401 }), Response.json({ id: "c/1" }));
  await client.post("/v1/commands/{command_id}/cancel", { ...ID, body: { reason: "wrong branch" } });
  const bodies = await Promise.all(fetcher.mock.calls.map((call) => sent(call).text()));
  expect(bodies).toEqual(['{"reason":"wrong branch"}', '{"reason":"wrong branch"}']);
});

test("without a new token the rejection is raised", async () => {
  const { api: client, tokens, fetcher } = api(new Response(null, { status: 401 }));
  tokens.renewed.mockResolvedValue(null);
  await expect(client.get("/v1/agents")).rejects.toMatchObject({ status: 401 });
  expect(fetcher).toHaveBeenCalledTimes(1);
});

test("an error has the problem's detail as its message", async () => {
  const problem = { type: "about:blank", title: "Conflict", status: 409, detail: "The command is over: lost." };
  const answer = new Response(JSON.stringify(problem), {
    status: 409,
    headers: { "content-type": "application/problem+json" },
  });
  const { api: client } = api(answer);
  await expect(client.post("/v1/commands/{command_id}/cancel", { ...ID, body: {} })).rejects.toEqual(new ApiError(409, "The command is over: lost."));
});

test("a request without an answer raises a passing error", async () => {
  const { api: client } = api(new TypeError("Failed to fetch"));
  await expect(client.get("/v1/me")).rejects.toMatchObject({ status: 0, isPassing: true });
});

test("all pages of a query are read", async () => {
  const { api: client, fetcher } = api(
    Response.json({ commands: [{ seq: 9 }], last_lines: { a: "one" }, next_before: 9 }),
    Response.json({ commands: [{ seq: 3 }], last_lines: { b: "two" }, next_before: null }),
  );
  expect(await client.allCommands({ state: "running" })).toEqual({
    commands: [{ seq: 9 }, { seq: 3 }],
    lines: { a: "one", b: "two" },
  });
  expect(fetcher.mock.calls.map((call) => sent(call).url)).toEqual([
    "http://server/v1/commands?state=running&limit=200",
    "http://server/v1/commands?state=running&limit=200&before=9",
  ]);
});

test("an answer that is cut off raises a passing error", async () => {
  const { api: client } = api(new Response('{"agents": [', { headers: { "content-type": "application/json" } }));
  await expect(client.get("/v1/agents")).rejects.toMatchObject({ status: 0, isPassing: true });
});

test("a creation is sent again with its key when the answer is lost, and only then", async () => {
  const { api: client, fetcher } = api(new TypeError("Failed to fetch"), Response.json({ id: "made" }));
  expect(await client.create("/v1/agents/{agent_id}/commands", COMMAND)).toEqual({ id: "made" });
  const keys = fetcher.mock.calls.map((call) => header(call, "Idempotency-Key"));
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(keys).toEqual([keys[0], keys[0]]);
  await expect(client.create("/v1/agents/{agent_id}/commands", COMMAND)).rejects.toMatchObject({ status: 500 });
  expect(fetcher).toHaveBeenCalledTimes(3);
  expect(header(fetcher.mock.calls[2], "Idempotency-Key")).not.toBe(keys[0]);
});

test("another request has no key and is not sent again", async () => {
  const { api: client, fetcher } = api(new TypeError("Failed to fetch"));
  await expect(client.post("/v1/commands/{command_id}/cancel", { ...ID, body: { reason: "wrong branch" } })).rejects.toMatchObject({ status: 0 });
  expect(fetcher).toHaveBeenCalledTimes(1);
  expect(header(fetcher.mock.calls[0], "Idempotency-Key")).toBeNull();
  expect(sent(fetcher.mock.calls[0]).url).toBe("http://server/v1/commands/c%2F1/cancel");
  expect(header(fetcher.mock.calls[0], "Content-Type")).toBe("application/json");
  expect(await sent(fetcher.mock.calls[0]).text()).toBe('{"reason":"wrong branch"}');
});

/** A body that arrives in these parts, and then is cut off if `cut` is set. */
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

test("a download returns the whole file and reports its progress", async () => {
  const { api: client } = api(new Response(body(["abc", "defgh"])));
  const told: number[] = [];
  const file = await client.download("/v1/audit/export", EXPORT, (bytes) => told.push(bytes));
  expect(await file.text()).toBe("abcdefgh");
  expect(told).toEqual([3, 8]);
});

test("a download that is cut off raises an error", async () => {
  const { api: client } = api(new Response(body(["abc"], true)));
  await expect(client.download("/v1/audit/export", EXPORT, () => {})).rejects.toEqual(
    new ApiError(0, "The server's answer was cut off."),
  );
});
