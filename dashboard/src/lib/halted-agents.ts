import { STEP_LABELS } from "./commands.ts";
import { counted } from "./format.ts";
import type { HaltState } from "./protocol.ts";
import type { HaltedAgent } from "./rest.ts";

/** The name of each state on the page. */
export const HALT_LABELS: Record<HaltState, string> = {
  not_reached: "unreachable",
  stopping: "stopping",
  stopped: "stopped",
  dying: "not stopped",
};

/** The detail beside an agent's state; empty if there is none. */
export function haltDetail(agent: HaltedAgent): string {
  if (agent.state === "dying") return agent.pids.length > 0 ? `processes survived SIGKILL: ${agent.pids.join(", ")}` : "";
  if (agent.state === "not_reached") return "stops as soon as it reconnects";
  if (agent.state !== "stopping" || agent.processes_left === 0) return "";
  const left = `${counted(agent.processes_left, "process", "processes")} left`;
  const steps: Record<string, string> = STEP_LABELS;
  return agent.step === null ? left : `${steps[agent.step] ?? agent.step}, ${left}`;
}
