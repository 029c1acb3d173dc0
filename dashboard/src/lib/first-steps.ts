import type { FirstSteps } from "./rest.ts";
import { includes } from "./roles.ts";
import type { Role } from "./protocol.ts";

export const STEPS = ["demo", "connect", "send", "answer"] as const;
export type StepId = (typeof STEPS)[number];

export interface Step {
  id: StepId;
  done: boolean;
}

/**
 * The first steps of a person with this role, as far as rows show that they were done.
 *
 * The demo is a way to begin: it is left out once an agent beside the demo's has connected without it.
 */
export function stepsOf(role: Role | undefined, done: FirstSteps): Step[] {
  const steps: Step[] = [];
  if (includes(role, "admin")) {
    if (done.demo_seen || !done.agent_connected) steps.push({ id: "demo", done: done.demo_seen });
    steps.push({ id: "connect", done: done.agent_connected });
  }
  if (includes(role, "operator")) {
    steps.push({ id: "send", done: done.command_sent }, { id: "answer", done: done.request_answered });
  }
  return steps;
}
