import type { Component } from "svelte";

import type { Workspace } from "./app.svelte.ts";
import type { Role } from "./protocol.ts";

/** A page other than the fleet's, at `#/<id>`. Its code is loaded when the page is opened. */
export interface Page {
  id: string;
  label: string;
  /** The least role that may open the page; the server checks each request on its own. */
  role: Role;
  load: () => Promise<{ default: Component<{ workspace: Workspace }> }>;
  /** Left out of the navigation: a link leads to the page. */
  hidden?: boolean;
}

export const PAGES: Page[] = [
  { id: "inbox", label: "Inbox", role: "viewer", load: () => import("../pages/Inbox.svelte") },
  { id: "history", label: "History", role: "viewer", load: () => import("../pages/History.svelte") },
  { id: "reports", label: "Reports", role: "viewer", load: () => import("../pages/Reports.svelte") },
  { id: "files", label: "Files", role: "viewer", hidden: true, load: () => import("../pages/Files.svelte") },
  { id: "presets", label: "Presets", role: "viewer", load: () => import("../pages/Presets.svelte") },
  { id: "schedules", label: "Schedules", role: "viewer", load: () => import("../pages/Schedules.svelte") },
  { id: "recordings", label: "Recordings", role: "viewer", load: () => import("../pages/Recordings.svelte") },
  { id: "usage", label: "Usage", role: "viewer", load: () => import("../pages/Usage.svelte") },
  { id: "statistics", label: "Statistics", role: "viewer", load: () => import("../pages/Statistics.svelte") },
  { id: "audit", label: "Audit", role: "admin", load: () => import("../pages/Audit.svelte") },
  { id: "access", label: "Access", role: "admin", load: () => import("../pages/Access.svelte") },
  { id: "approve", label: "Approve agents", role: "admin", hidden: true, load: () => import("../pages/Approve.svelte") },
  { id: "alerts", label: "Alerts", role: "viewer", hidden: true, load: () => import("../pages/Alerts.svelte") },
];
