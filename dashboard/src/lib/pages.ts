import type { Component } from "svelte";

import type { Workspace } from "./app.svelte.ts";
import type { Role } from "./protocol.ts";

/** A page beside the fleet's, at `#/<id>`. Its code is fetched when it is opened. */
export interface Page {
  id: string;
  label: string;
  /** Who may open it; the server checks all that it asks for. */
  role: Role;
  load: () => Promise<{ default: Component<{ workspace: Workspace }> }>;
  /** Reached by a link or a notice only, not shown among the pages. */
  hidden?: boolean;
}

export const PAGES: Page[] = [
  { id: "history", label: "History", role: "viewer", load: () => import("../pages/History.svelte") },
  { id: "presets", label: "Presets", role: "viewer", load: () => import("../pages/Presets.svelte") },
  { id: "schedules", label: "Schedules", role: "viewer", load: () => import("../pages/Schedules.svelte") },
  { id: "recordings", label: "Recordings", role: "viewer", load: () => import("../pages/Recordings.svelte") },
  { id: "figures", label: "Figures", role: "viewer", load: () => import("../pages/Statistics.svelte") },
  { id: "audit", label: "Audit", role: "admin", load: () => import("../pages/Audit.svelte") },
  { id: "access", label: "Access", role: "admin", load: () => import("../pages/Access.svelte") },
  { id: "approve", label: "Let an agent in", role: "admin", hidden: true, load: () => import("../pages/Approve.svelte") },
  { id: "alerts", label: "Alerts", role: "viewer", hidden: true, load: () => import("../pages/Alerts.svelte") },
];
