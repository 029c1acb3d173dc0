import type { Command, SearchHit } from "./protocol.ts";
import { addressOf } from "./route.svelte.ts";

export type Format = "cast3" | "cast2" | "text";

/** What a recording is exported as. */
export const FORMATS: { format: Format; label: string; extension: string }[] = [
  { format: "cast3", label: "asciicast v3", extension: "cast" },
  { format: "cast2", label: "asciicast v2", extension: "cast" },
  { format: "text", label: "plain text", extension: "txt" },
];

/** Where the player shows a place of a stream; within a part of it when `from` and `to` say so. */
export function playerAddress(agent: string, streamId: string, place: { at?: number; from?: number; to?: number } = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(place)) if (value !== undefined) query.set(name, String(value));
  return addressOf(["recordings", agent, streamId], query);
}

/** Where a command's output is played; null while there is none. */
export function replayAddress(agent: string, command: Command): string | null {
  if (command.stream_id === null || command.output_start === null) return null;
  const { stream_id, output_start, output_end } = command;
  if (output_end === null) return playerAddress(agent, stream_id, { at: output_start });
  return playerAddress(agent, stream_id, { from: output_start, to: output_end });
}

/** Where a find is shown; null for a command that has put nothing out. */
export function hitAddress(agent: string, hit: SearchHit): string | null {
  if (hit.stream_id === null || hit.offset === null) return null;
  return playerAddress(agent, hit.stream_id, { at: hit.offset });
}
