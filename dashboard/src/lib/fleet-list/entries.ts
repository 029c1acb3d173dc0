import type { Workspace } from "../app.svelte.ts";
import { entryOf, type Entry } from "./entry.ts";

/** Every agent of the fleet as the list and the wall show it, by name. */
export function entriesOf({ fleet, requests, halting }: Workspace): Entry[] {
  const asking = requests?.oldest;
  return fleet.agentsByName.map((agent) =>
    entryOf({
      agent,
      request: asking?.get(agent.id),
      active: fleet.activeByAgent.get(agent.id),
      work: fleet.work.get(agent.id),
      halted: halting.halt !== null,
    }),
  );
}
