import type { Agent, AttentionRequest, Command, LastCommand } from "../rest.ts";
import { entryOf, type Entry } from "./entry.ts";

/** What a test says of an agent beside its row: its running command's text, what it asks, and what it did last. */
interface Doing {
  active?: string;
  asks?: string;
  last?: LastCommand["state"];
  queued?: number;
}

/** A row of the list for tests: an agent that is online and idle, unless something else is said. */
export function entry(name: string, fields: Partial<Agent> = {}, { active, asks, last, queued = 0 }: Doing = {}): Entry {
  const at = "2026-01-01T10:00:00Z";
  const agent = { id: name, name, kind: "shell", cli: null, host: "", labels: [], status: "online", ...NOTHING, ...fields } as Agent;
  return entryOf({
    agent,
    active: active === undefined ? undefined : ({ id: "r", text: active, state: "running", started_at: at, usage: null } as Command),
    request: asks === undefined ? undefined : ({ title: asks, asked_at: at } as AttentionRequest),
    work: {
      queued,
      last:
        last === undefined
          ? null
          : {
              id: "c",
              state: last,
              denied: 0,
              text: "make\nall",
              exit_code: 1,
              signal: null,
              ended_at: at,
              last_line: "2 of 2 built",
              cost_usd: 0.25,
              partial: false,
            },
    },
    halted: false,
  });
}

const NOTHING = {
  disabled_at: null,
  paused_at: null,
  problem: null,
  problem_since: null,
  limited_since: null,
  limited_until: null,
  connected_at: null,
  disconnected_at: null,
};
