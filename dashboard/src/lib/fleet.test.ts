import { beforeEach, describe, expect, test } from "vitest";

import { Api, ApiError, type Query } from "./api.ts";
import type { Agent, Agents, Command, Commands } from "./rest.ts";
import { Fleet } from "./fleet.svelte.ts";

const DONE = { state: "succeeded", ended_at: "2026-01-01T00:00:09+00:00" } as const;

function agent(fields: Partial<Agent> = {}): Agent {
  return { id: "a1", name: "one", epoch: 1, status: "online", disabled_at: null, ...fields } as Agent;
}

function command(fields: Partial<Command> = {}): Command {
  const row = { id: "c1", seq: 1, agent_id: "a1", text: "make", priority: 5, state: "queued", delivery_attempts: 0 };
  return { ...row, dispatched_at: null, cancel_requested_at: null, cancel_step: null, ...fields } as Command;
}

interface Input {
  params: { path: { command_id: string }; query: Query<"/v1/commands"> };
}

/** The server as the page sees it; `before` runs between the request for agents and its answer. */
class Server extends Api {
  rows: Command[] = [];
  agentRows: Agent[] = [agent()];
  before: () => void = () => undefined;
  fails: ApiError | null = null;
  override get = (async (path: string, input: Input) => {
    switch (path) {
      case "/v1/me":
        return { id: "me", email: "me@example.org", role: "admin" };
      case "/v1/agents":
        return this.#agents();
      case "/v1/commands/{command_id}":
        return this.rows.find((row) => row.id === input.params.path.command_id);
      case "/v1/commands":
        return this.#commands(input.params.query);
      default:
        throw new Error(path);
    }
  }) as Api["get"];

  async #agents(): Promise<Agents> {
    const activity = { name: "idle", since: null, until: null, reason: null, waiting: 0, command_id: null, attention_id: null } as const;
    const answer = { agents: this.agentRows.map((row) => ({ ...row, activity, silence: null, queued: 0, last_command: null })) };
    if (this.fails) throw this.fails;
    await Promise.resolve();
    this.before();
    return answer;
  }

  #commands({ agent_id, state, before, limit }: Query<"/v1/commands">): Commands {
    const found = this.rows
      .filter((row) => agent_id === undefined || row.agent_id === agent_id)
      .filter((row) => state === undefined || row.state === state)
      .filter((row) => typeof before !== "number" || row.seq < before)
      .sort((a, b) => b.seq - a.seq);
    const page = found.slice(0, limit);
    return { commands: page, last_lines: {}, next_before: found.length > page.length ? (page.at(-1)?.seq ?? null) : null };
  }
}

let server: Server;
let fleet: Fleet;

beforeEach(async () => {
  server = new Server({ current: async () => "token", renewed: async () => null }, fetch, "http://server");
  fleet = new Fleet(server);
});

describe("a fleet", () => {
  test("holds the agents, all running commands, and the selected agent's commands", async () => {
    server.agentRows = [agent(), agent({ id: "a2", name: "two" })];
    server.rows = [
      command(),
      command({ id: "c2", seq: 2, agent_id: "a2", state: "running" }),
      command({ id: "c3", seq: 3, agent_id: "a2" }),
    ];
    void fleet.select("a1");
    expect(await fleet.read()).toBe(true);
    expect(fleet.agentsByName.map((a) => a.name)).toEqual(["one", "two"]);
    expect([...fleet.commands.keys()].sort()).toEqual(["c1", "c2"]);
    expect(fleet.activeByAgent.get("a2")?.id).toBe("c2");
    await fleet.select("a2");
    expect([...fleet.commands.keys()].sort()).toEqual(["c2", "c3"]);
  });

  test("applies a change that arrived during the snapshot after it", async () => {
    server.rows = [command({ state: "running" })];
    server.before = () => {
      fleet.change({ table: "commands", id: "c1", row: command(DONE), whole: true });
      fleet.change({ table: "agents", id: "a1", row: agent({ epoch: 2, status: "offline" }) });
    };
    void fleet.select("a1");
    await fleet.read();
    expect(fleet.commands.get("c1")?.state).toBe("succeeded");
    expect(fleet.agents.get("a1")?.status).toBe("offline");
  });

  test("shows an agent as in the answer to a request, before a change arrives", async () => {
    await fleet.read();
    fleet.answeredAgent(agent({ labels: ["eu"] }));
    expect(fleet.agents.get("a1")?.labels).toEqual(["eu"]);
  });

  test("does not bring back a row that was deleted during the snapshot", async () => {
    server.rows = [command()];
    server.before = () => fleet.change({ table: "commands", id: "c1", row: null, whole: true });
    void fleet.select("a1");
    await fleet.read();
    expect(fleet.commands.size).toBe(0);
  });

  test("does not overwrite a final state with an older row", async () => {
    void fleet.select("a1");
    server.rows = [command(DONE)];
    await fleet.read();
    fleet.change({ table: "commands", id: "c1", row: command({ state: "running" }), whole: true });
    expect(fleet.commands.get("c1")?.state).toBe("succeeded");
  });

  test("removes commands that ended while it was disconnected, and deleted agents", async () => {
    server.agentRows = [agent(), agent({ id: "a2" })];
    server.rows = [command({ agent_id: "a2", state: "running" })];
    await fleet.read();
    expect(fleet.activeByAgent.has("a2")).toBe(true);
    server.agentRows = [agent()];
    server.rows = [command({ agent_id: "a2", ...DONE })];
    await fleet.read();
    expect(fleet.activeByAgent.has("a2")).toBe(false);
    expect([...fleet.agents.keys()]).toEqual(["a1"]);
  });

  test("reads a command whose change arrived without its text", async () => {
    await fleet.read();
    server.rows = [command({ agent_id: "a9", state: "running", text: "a long text" })];
    const { text: _, ...record } = command({ agent_id: "a9", state: "running" });
    fleet.change({ table: "commands", id: "c1", row: record, whole: false });
    await Promise.resolve();
    await Promise.resolve();
    expect(fleet.commands.get("c1")?.text).toBe("a long text");
  });

  test("shows history by pages, and the queue in its order", async () => {
    server.rows = Array.from({ length: 60 }, (_, i) => command({ id: `c${i}`, seq: i, ...DONE }));
    server.rows.push(command({ id: "low", seq: 100, priority: 9 }), command({ id: "high", seq: 101, priority: 1 }));
    void fleet.select("a1");
    await fleet.read();
    expect(fleet.waiting.map((c) => c.id)).toEqual(["high", "low"]);
    expect(fleet.history.length).toBe(48);
    expect(fleet.hasOlder).toBe(true);
    await fleet.readOlder();
    expect(fleet.history.length).toBe(60);
    expect(fleet.hasOlder).toBe(false);
  });

  test("keeps its rows when a reading fails, and has the error", async () => {
    await fleet.read();
    server.fails = new ApiError(0, "The server cannot be reached.");
    expect(await fleet.read()).toBe(false);
    expect(fleet.agents.size).toBe(1);
    expect(fleet.problem?.message).toBe("The server cannot be reached.");
    server.fails = null;
    await fleet.read();
    expect(fleet.problem).toBeNull();
  });
});
