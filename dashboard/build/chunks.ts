import type { Rolldown } from "vite";

type Groups = NonNullable<Rolldown.CodeSplittingOptions["groups"]>;

/** Packages that are loaded only where they are used: the editor, the terminal, Markdown, charts and Realtime. */
const LARGE = /\/node_modules\/(?:monaco-editor|@xterm|markdown-it|uplot|@supabase)\//;
/** Our modules but the pages, and the small package that lists of several of them need. */
const SHARED = /\/src\/(?!pages\/)|\/node_modules\/@tanstack\//;

/**
 * The chunks of the page: what the sign-in needs, then all of our components and modules that need no large package.
 * Each page, each large package and what needs one stay chunks of their own. Else the page of an agent would load 35
 * scripts and 20 style sheets, most of less than 2 kB.
 */
export const groups: Groups = [
  { name: "start", tags: ["$initial"], priority: 1 },
  { name: (id, context) => (SHARED.test(id) && !needsLarge(id, context, new Set()) ? "components" : null) },
];

function needsLarge(id: string, context: Rolldown.ChunkingContext, seen: Set<string>): boolean {
  if (LARGE.test(id)) return true;
  if (seen.has(id)) return false;
  seen.add(id);
  const imported = context.getModuleInfo(id)?.importedIds ?? [];
  return imported.some((each) => needsLarge(each, context, seen));
}
