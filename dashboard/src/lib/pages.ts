import type { Component } from "svelte";

import type { Workspace } from "./app.svelte.ts";
import type { Role } from "./protocol.ts";

/** The four places that the header leads to; each has pages. */
export const PLACES = ["fleet", "runs", "insights", "admin"] as const;
export type Place = (typeof PLACES)[number];

export const PLACE_LABELS: Record<Place, string> = { fleet: "Fleet", runs: "Runs", insights: "Insights", admin: "Admin" };

/** A page other than the fleet's, at `#/<id>`. Its code is loaded when the page is opened. */
export interface Page {
  id: string;
  label: string;
  /** Null for the inbox, to which the header leads by what waits. */
  place: Place | null;
  /** The least role that may open the page; the server checks each request on its own. */
  role: Role;
  load: () => Promise<{ default: Component<{ workspace: Workspace }> }>;
  /** Left out of the navigation: a link leads to the page. */
  hidden?: boolean;
}

export const PAGES: Page[] = [
  { id: "wall", label: "Wall", place: "fleet", role: "viewer", load: () => import("../pages/Wall.svelte") },
  { id: "stream", label: "Stream", place: "fleet", role: "viewer", load: () => import("../pages/Stream.svelte") },
  { id: "inbox", label: "Inbox", place: null, role: "viewer", load: () => import("../pages/Inbox.svelte") },
  { id: "history", label: "History", place: "runs", role: "viewer", load: () => import("../pages/History.svelte") },
  { id: "command", label: "Command", place: "runs", role: "viewer", hidden: true, load: () => import("../pages/Command.svelte") },
  { id: "files", label: "Files", place: "fleet", role: "viewer", hidden: true, load: () => import("../pages/Files.svelte") },
  { id: "presets", label: "Presets", place: "runs", role: "viewer", load: () => import("../pages/Presets.svelte") },
  { id: "schedules", label: "Schedules", place: "runs", role: "viewer", load: () => import("../pages/Schedules.svelte") },
  { id: "recordings", label: "Recordings", place: "runs", role: "viewer", load: () => import("../pages/Recordings.svelte") },
  { id: "reports", label: "Reports", place: "insights", role: "viewer", load: () => import("../pages/Reports.svelte") },
  { id: "usage", label: "Usage", place: "insights", role: "viewer", load: () => import("../pages/Usage.svelte") },
  { id: "statistics", label: "Statistics", place: "insights", role: "viewer", load: () => import("../pages/Statistics.svelte") },
  { id: "access", label: "Access", place: "admin", role: "admin", load: () => import("../pages/Access.svelte") },
  { id: "audit", label: "Audit", place: "admin", role: "admin", load: () => import("../pages/Audit.svelte") },
  { id: "approve", label: "Approve agents", place: "admin", role: "admin", hidden: true, load: () => import("../pages/Approve.svelte") },
  { id: "alerts", label: "Alerts", place: "admin", role: "viewer", hidden: true, load: () => import("../pages/Alerts.svelte") },
];

/** The page at this address, or the fleet's. */
export function placeOf(id: string | null): Place | null {
  return id === null ? "fleet" : (PAGES.find((page) => page.id === id)?.place ?? null);
}
