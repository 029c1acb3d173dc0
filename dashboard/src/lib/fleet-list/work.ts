import { ApiError } from "../api.ts";
import type { Fleet } from "../fleet.svelte.ts";
import { FINAL_STATES } from "../protocol.ts";

/** More agents than this are read with the whole list. */
const MOST_ALONE = 8;
const ALONE_MS = 1000;
const TOGETHER_MS = 5000;

/**
 * Reads an agent's queue and last command again after commands of its were queued, dispatched or ended; the returned
 * function ends this. A busy fleet is read at most once a second, and as a whole at most every five.
 */
export function followWork(fleet: Fleet): () => void {
  const due = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | null = null;
  let earliest = 0;
  let ended = false;

  async function read(): Promise<void> {
    const ids = [...due];
    due.clear();
    const together = ids.length > MOST_ALONE;
    try {
      if (together) {
        fleet.tookWork((await fleet.api.get("/v1/agents")).agents);
      } else {
        const one = async (id: string) => fleet.api.get("/v1/agents/{agent_id}", { params: { path: { agent_id: id } } });
        fleet.tookWork(await Promise.all(ids.map(one)));
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // An agent is gone, or the server is away: after a lost connection everything is read again.
    }
    timer = null;
    earliest = performance.now() + (together ? TOGETHER_MS : ALONE_MS);
    if (due.size > 0) plan();
  }

  function plan(): void {
    if (timer !== null || ended) return;
    timer = setTimeout(() => void read(), Math.max(0, earliest - performance.now()));
  }

  const stop = fleet.watch((change) => {
    const row = change?.table === "commands" ? change.row : null;
    const state = row?.state;
    if (row?.agent_id === undefined || state === undefined) return;
    if (state !== "queued" && state !== "dispatched" && !FINAL_STATES.has(state)) return;
    due.add(row.agent_id);
    plan();
  });
  return () => {
    ended = true;
    stop();
    if (timer !== null) clearTimeout(timer);
  };
}
