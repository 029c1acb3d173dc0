import type { Agent } from "./rest.ts";

/** The name of the CLI that an agent runs: its kind, or for the kind `acp` the CLI's program. */
export function cliName(agent: Agent): string {
  return agent.cli ?? agent.kind;
}

/** The hues, in degrees, between those of the kinds that have a colour of their own in app.css. */
const FREE = [
  [15, 120],
  [175, 235],
  [285, 315],
] as const;

/** The hue of a CLI that has no colour of its own: the same for the same name. */
export function hue(agent: Agent): number {
  return hueOf(cliName(agent));
}

/** The hue of a name: the same for the same name. The factor keeps those of known CLIs apart. */
export function hueOf(name: string): number {
  let sum = 0;
  for (const character of name) sum = (sum * 184 + (character.codePointAt(0) ?? 0)) % 195;
  for (const [from, to] of FREE) {
    if (sum < to - from) return from + sum;
    sum -= to - from;
  }
  return 0;
}

/** Whether the agent's commands are prompts of conversations; those of a shell are command lines. */
export function takesPrompts(agent: Agent): boolean {
  return agent.kind !== "shell";
}
