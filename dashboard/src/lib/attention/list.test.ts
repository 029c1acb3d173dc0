import { expect, test, vi } from "vitest";

import type { Api } from "../api.ts";
import { ApiError } from "../api.ts";
import type { AttentionRequest } from "../rest.ts";
import { changedRequest, OpenRequests, type ChangedRequest } from "./list.svelte.ts";

function row(id: string, fields: Partial<AttentionRequest> = {}): AttentionRequest {
  return { id, digest: "a", state: "open", delivery: null, asked_at: "2026-01-01T00:00:00Z", kind: "plan", ...fields } as AttentionRequest;
}

/** A server with these rows, and the paths that were read of it. */
function server(...rows: AttentionRequest[]) {
  const known = new Map(rows.map((one) => [one.id, one]));
  const read: string[] = [];
  const get = vi.fn(async (path: string, { params }: { params: { path?: { attention_id: string } } }) => {
    const id = params.path?.attention_id;
    read.push(id ?? path);
    await Promise.resolve();
    if (id === undefined) return { requests: [...known.values()].filter(({ state }) => state === "open"), next_after: null };
    const found = known.get(id);
    if (found === undefined) throw new ApiError(404, "Request not found.");
    return found;
  });
  const set = (one: AttentionRequest): ChangedRequest => (known.set(one.id, one), one);
  return { api: { get } as unknown as Api, read, set, gone: (id: string) => known.delete(id) };
}

function ids(requests: OpenRequests): string[] {
  return requests.rows.map(({ id }) => id).sort();
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

test("only a request that asks anew is read", async () => {
  const center = server(row("1"), row("2"));
  const requests = new OpenRequests(center.api);
  await requests.read();
  requests.changed(center.set(row("1", { title: "the same digest" })));
  requests.changed(center.set(row("2", { state: "answered" })));
  await settled();
  expect(ids(requests)).toEqual(["1"]);
  expect(center.read).toEqual(["/v1/attention"]);
  requests.changed(center.set(row("3")));
  await settled();
  requests.changed(center.set(row("1", { digest: "b" })));
  await settled();
  expect(center.read).toEqual(["/v1/attention", "3", "1"]);
  expect(requests.rows.find(({ id }) => id === "1")?.digest).toBe("b");
});

test("many changes at once are read together", async () => {
  const center = server();
  const requests = new OpenRequests(center.api);
  await requests.read();
  for (let number = 0; number < 200; number += 1) requests.changed(center.set(row(`${number}`)));
  await settled();
  expect(requests.rows).toHaveLength(200);
  expect(center.read).toEqual(["/v1/attention", "0", "/v1/attention"]);
});

test("a change while a request is read is not lost", async () => {
  const center = server();
  const requests = new OpenRequests(center.api);
  await requests.read();
  requests.changed(center.set(row("1")));
  center.set(row("1", { state: "answered" }));
  requests.changed(row("1", { state: "answered" }));
  await settled();
  expect(ids(requests)).toEqual([]);
});

test("a request that is gone is taken from the list", async () => {
  const center = server(row("1"));
  const requests = new OpenRequests(center.api);
  await requests.read();
  center.gone("1");
  requests.changed(row("1", { digest: "b" }));
  await settled();
  expect(ids(requests)).toEqual([]);
});

test("watchers get each change, and an incomplete one stands for any", () => {
  const requests = new OpenRequests(server().api);
  const seen: (string | null)[] = [];
  const stop = requests.watch((change) => seen.push(change?.id ?? null));
  requests.changed(changedRequest({ id: "1", state: "open", digest: "a" }));
  requests.changed(changedRequest({ id: "1" }));
  requests.changed(changedRequest(null));
  stop();
  requests.changed(null);
  expect(seen).toEqual(["1", null, null]);
});
