import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Backoff } from "../backoff.ts";
import { CloseCode, type ServerToViewerMessage } from "../protocol.ts";
import type { Place } from "./flow.ts";
import { TerminalSocket, type LinkStatus } from "./socket.ts";

/** The server's end of one connection. */
class Peer {
  readyState = 0;
  binaryType = "";
  sent: unknown[] = [];
  closed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  opens(): this {
    this.readyState = 1;
    this.onopen?.();
    return this;
  }
  says(message: ServerToViewerMessage): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  writes(text: string): void {
    this.onmessage?.({ data: new TextEncoder().encode(text).buffer });
  }
  drops(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

const ATTACHED = {
  type: "attached",
  stream_id: "s1",
  mode: "tail",
  offset: 100,
  columns: 80,
  rows: 24,
  modes: "",
} as const;

let peers: Peer[];
let statuses: LinkStatus[];
let seen: [string, Place][];
let tokens: { current: () => Promise<string | null>; renewed: () => Promise<string | null> };
let socket: TerminalSocket;

beforeEach(async () => {
  vi.useFakeTimers();
  peers = [];
  statuses = [];
  seen = [];
  tokens = { current: vi.fn(async () => "t1"), renewed: vi.fn(async () => "t2") };
  socket = new TerminalSocket({
    url: "ws://here/v1/agents/a/terminal",
    tokens,
    backoff: new Backoff(1000, 8000, () => 1),
    open: () => {
      const peer = new Peer();
      peers.push(peer);
      return peer as unknown as WebSocket;
    },
    events: {
      status: (status) => statuses.push(status),
      attached: (m) => seen.push(["attached " + m.mode, { streamId: m.stream_id, offset: m.offset }]),
      bytes: (data, after) => seen.push([new TextDecoder().decode(data), after]),
      gap: (m, after) => seen.push([`gap ${m.missing}`, after]),
      started: (m) => seen.push(["started", { streamId: m.stream_id, offset: m.offset }]),
      controlled: (m) => seen.push([`controlled by ${m.controller?.name}`, { streamId: null, offset: 0 }]),
      taken: (m) => seen.push([`taken ${m.seq}`, { streamId: null, offset: 0 }]),
      times: (m) => seen.push([`times ${m.seconds}`, { streamId: null, offset: 0 }]),
      resized: (m) => seen.push([`${m.columns}x${m.rows}`, { streamId: null, offset: 0 }]),
    },
  });
  await vi.advanceTimersByTimeAsync(0);
});

afterEach(() => {
  socket.close();
  vi.useRealTimers();
});

function peer(index = -1): Peer {
  return peers.at(index) as Peer;
}

describe("a terminal's socket", () => {
  test("sends its token first, and no place the first time", () => {
    peer().opens();
    expect(peer().sent).toEqual([{ type: "attach", access_token: "t1", client_id: socket.typist.clientId, times: true }]);
  });

  test("counts the bytes from the announced offset", () => {
    peer().opens().says(ATTACHED);
    peer().writes("abc");
    peer().writes("de");
    expect(seen.slice(1)).toEqual([
      ["abc", { streamId: "s1", offset: 103 }],
      ["de", { streamId: "s1", offset: 105 }],
    ]);
  });

  test("reconnects after a delay at the byte it had reached", async () => {
    peer().opens().says(ATTACHED);
    peer().writes("abc");
    peer().drops();
    expect(statuses.at(-1)).toEqual({ name: "waiting", why: "the connection was lost" });
    await vi.advanceTimersByTimeAsync(999);
    expect(peers).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    peer().opens();
    expect(peer().sent).toEqual([{ type: "attach", access_token: "t1", client_id: socket.typist.clientId, times: true, stream_id: "s1", offset: 103 }]);
  });

  test("sends unanswered keys again after a lost connection", async () => {
    peer().opens().says(ATTACHED);
    for (const text of ["a", "b", "c"]) socket.type(text);
    peer().says({ type: "keys_taken", client_id: socket.typist.clientId, seq: 2, refused: "not_in_control" });
    peer().drops();
    await vi.advanceTimersByTimeAsync(1000);
    peer().opens().says({ ...ATTACHED, mode: "exact" });
    expect(peer().sent.slice(1)).toMatchObject([{ type: "keys", seq: 1, text: "a" }, { type: "keys", seq: 3, text: "c" }]);
  });

  test("continues a paste with its next part, also over another connection", async () => {
    peer().opens().says(ATTACHED);
    socket.type("x".repeat(20_000));
    peer().drops();
    await vi.advanceTimersByTimeAsync(1000);
    peer().opens().says({ ...ATTACHED, mode: "exact" });
    expect(peer().sent.slice(1)).toMatchObject([{ seq: 1 }]);
    peer().says({ type: "keys_taken", client_id: socket.typist.clientId, seq: 1, refused: null });
    expect(peer().sent.slice(2)).toMatchObject([{ seq: 2, text: "x".repeat(4000) }]);
  });

  test("waits longer after each failure, and starts again with short delays once attached", async () => {
    for (const delay of [1000, 2000, 4000]) {
      peer().drops();
      await vi.advanceTimersByTimeAsync(delay - 1);
      const before = peers.length;
      await vi.advanceTimersByTimeAsync(1);
      expect(peers.length).toBe(before + 1);
    }
    peer().opens().says(ATTACHED);
    peer().drops();
    await vi.advanceTimersByTimeAsync(1000);
    expect(peers).toHaveLength(5);
  });

  test("a gap and a new stream move its place", () => {
    peer().opens().says(ATTACHED);
    peer().says({ type: "gap", offset: 500, missing: 400, modes: "" });
    peer().writes("x");
    peer().says({ type: "stream_started", stream_id: "s2", offset: 0, columns: 80, rows: 24 });
    peer().writes("yz");
    expect(seen.slice(1)).toEqual([
      ["gap 400", { streamId: "s1", offset: 500 }],
      ["x", { streamId: "s1", offset: 501 }],
      ["started", { streamId: "s2", offset: 0 }],
      ["yz", { streamId: "s2", offset: 2 }],
    ]);
  });

  test.each([CloseCode.FORBIDDEN, CloseCode.NOT_FOUND, CloseCode.BAD_MESSAGE, CloseCode.REVOKED])(
    "stays away after the permanent code %i until it is asked to try again",
    async (code) => {
      peer().opens().drops(code, "why it was");
      await vi.advanceTimersByTimeAsync(60_000);
      expect(peers).toHaveLength(1);
      expect(statuses.at(-1)).toEqual({ name: "stopped", why: "why it was" });
      socket.retry();
      await vi.advanceTimersByTimeAsync(0);
      expect(peers).toHaveLength(2);
    },
  );

  test("reconnects at once with a new token when its token has expired", async () => {
    peer().opens().says(ATTACHED);
    peer().drops(CloseCode.TOKEN_EXPIRED);
    await vi.advanceTimersByTimeAsync(0);
    peer().opens();
    expect(peer().sent[0]).toMatchObject({ access_token: "t2", offset: 100 });
  });

  test.each([CloseCode.ELSEWHERE, CloseCode.DRAINING])(
    "follows at once an agent that moves, with the code %i, and waits if it is not there yet",
    async (code) => {
      peer().opens().says(ATTACHED);
      peer().drops(code);
      await vi.advanceTimersByTimeAsync(0);
      expect(peers).toHaveLength(2);
      peer().opens();
      expect(peer().sent[0]).toMatchObject({ access_token: "t1", offset: 100 });
      peer().drops(code);
      await vi.advanceTimersByTimeAsync(0);
      expect(peers).toHaveLength(2);
      await vi.advanceTimersByTimeAsync(1000);
      expect(peers).toHaveLength(3);
    },
  );

  test("reconnects with delays to a server that rejects every token", async () => {
    peer().opens().drops(CloseCode.UNAUTHENTICATED);
    await vi.advanceTimersByTimeAsync(999);
    expect(peers).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(peers).toHaveLength(2);
    expect(tokens.renewed).toHaveBeenCalledTimes(1);
  });

  test("stops when the person has signed out", async () => {
    tokens.current = async () => null;
    peer().drops();
    await vi.advanceTimersByTimeAsync(1000);
    expect(statuses.at(-1)).toMatchObject({ name: "stopped" });
  });

  test("answers a ping, and sends a newer token and a size once attached", () => {
    peer().opens();
    socket.resize(100, 30);
    peer().says(ATTACHED);
    peer().says({ type: "ping" });
    socket.token("t3");
    socket.resize(120, 40);
    expect(peer().sent.slice(1)).toEqual([
      { type: "pong" },
      { type: "token", access_token: "t3" },
      { type: "resize", columns: 120, rows: 40 },
    ]);
  });

  test("sends a ping to a silent server and closes the connection without an answer", async () => {
    peer().opens().says(ATTACHED);
    await vi.advanceTimersByTimeAsync(40_000);
    expect(peer().sent.at(-1)).toEqual({ type: "ping" });
    await vi.advanceTimersByTimeAsync(10_000);
    expect(peer().closed).toBe(true);
    await vi.advanceTimersByTimeAsync(1000);
    expect(peers).toHaveLength(2);
  });

  test("leaves the stream when it is paused and reconnects at the given place", async () => {
    peer().opens().says(ATTACHED);
    peer().writes("abcdef");
    socket.pause();
    expect(peer().closed).toBe(true);
    expect(statuses.at(-1)).toEqual({ name: "paused" });
    socket.resume({ streamId: "s1", offset: 102 });
    await vi.advanceTimersByTimeAsync(0);
    peer().opens();
    expect(peer().sent[0]).toMatchObject({ stream_id: "s1", offset: 102 });
  });

  test("a closed socket does not reconnect", async () => {
    peer().opens().says(ATTACHED);
    socket.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(peers).toHaveLength(1);
  });
});
