import type { Command, SearchHit } from "./rest.ts";
import { addressOf } from "./route.svelte.ts";

export type Format = "cast3" | "cast2" | "text" | "text_times";

/** The formats of an export. */
export const FORMATS: { format: Format; label: string; extension: string }[] = [
  { format: "cast3", label: "asciicast v3", extension: "cast" },
  { format: "cast2", label: "asciicast v2", extension: "cast" },
  { format: "text", label: "plain text", extension: "txt" },
  { format: "text_times", label: "plain text with times", extension: "txt" },
];

/** A place in a recording: the offset or the time (in seconds) at which the player opens, and the only part that it plays. */
export interface RecordingPlace {
  at?: number;
  time?: number;
  from?: number;
  to?: number;
}

/** The player's address for a stream. */
export function playerAddress(agent: string, streamId: string, place: RecordingPlace = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(place)) if (value !== undefined) query.set(name, String(value));
  return addressOf(["recordings", agent, streamId], query);
}

/** The player's address for a command's output; null while there is none. */
export function replayAddress(agent: string, command: Command): string | null {
  if (command.stream_id === null || command.output_start === null) return null;
  const { stream_id, output_start, output_end } = command;
  if (output_end === null) return playerAddress(agent, stream_id, { at: output_start });
  return playerAddress(agent, stream_id, { from: output_start, to: output_end });
}

/** The player's address for a search result; null for a command without output. */
export function hitAddress(agent: string, hit: SearchHit): string | null {
  if (hit.stream_id === null || hit.offset === null) return null;
  return playerAddress(agent, hit.stream_id, { at: hit.offset });
}
