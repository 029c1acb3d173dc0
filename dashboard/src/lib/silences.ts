import { type Api, ApiError } from "./api.ts";
import { duration, moment } from "./format.ts";

/** The agents that work and are silent for longer than usual, each with what is known of it; none while the server is away. */
export async function silences(api: Api): Promise<Map<string, string>> {
  try {
    const { agents } = await api.get("/v1/agents");
    return new Map(agents.flatMap(({ id, silence }) => (silence === null ? [] : [[id, inWords(silence)] as const])));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return new Map();
  }
}

function inWords(silence: { since: string; usual_seconds: number; doing: string | null; doing_since: string | null }): string {
  const usual = `silent since ${moment(silence.since)}, usually at most ${duration(silence.usual_seconds * 1000)}`;
  return silence.doing === null ? usual : `${usual}; at: ${silence.doing}`;
}
