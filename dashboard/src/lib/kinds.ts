import type { Agent } from "./rest.ts";

/** The name of the CLI that an agent runs: its kind, or for the kind `acp` the CLI's program. */
export function cliName(agent: Agent): string {
  return agent.cli ?? agent.kind;
}

/** The hue, in degrees, of a CLI that has no colour of its own: the same for the same name. */
export function hue(agent: Agent): number {
  let sum = 0;
  for (const character of cliName(agent)) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 360;
  return sum;
}

/** Whether the agent's commands are prompts of conversations; those of a shell are command lines. */
export function takesPrompts(agent: Agent): boolean {
  return agent.kind !== "shell";
}
