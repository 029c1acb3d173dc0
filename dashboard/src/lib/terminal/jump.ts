import { ApiError, type Api } from "../api.ts";
import { playerAddress } from "../recordings.ts";
import type { Agent, Stream, Streams } from "../rest.ts";

/** Opens an agent's recording at a time (in seconds). Returns why it cannot; "" if it can. */
export async function openRecordingAt(api: Api, agent: Agent, second: number): Promise<string> {
  try {
    const stream = await streamAt(api, agent.id, second * 1000);
    if (stream === null) return "No recording of this agent goes back to this time.";
    location.hash = playerAddress(agent.name, stream.id, { time: second });
    return "";
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return error.message;
  }
}

/** The newest stream with output that began before this time; null if there is none. */
async function streamAt(api: Api, agentId: string, ms: number): Promise<Stream | null> {
  let before: string | null = null;
  do {
    const page: Streams = await api.get("/v1/agents/{agent_id}/streams", {
      params: { path: { agent_id: agentId }, query: { before } },
    });
    const found = page.streams.find(({ began_at }) => began_at !== null && Math.floor(Date.parse(began_at) / 1000) * 1000 <= ms);
    if (found !== undefined) return found;
    before = page.next_before;
  } while (before !== null);
  return null;
}
