/** The layouts of the wall: columns × rows. */
export const LAYOUTS = ["2x2", "3x2", "3x3", "4x3", "5x4", "6x4"] as const;
export type Layout = (typeof LAYOUTS)[number];

/** The layout of this name, which may come from an address; else that of twelve tiles. */
export function layoutOf(name: string | null): { layout: Layout; columns: number; rows: number } {
  const layout = LAYOUTS.find((known) => known === name) ?? "4x3";
  const [columns = 4, rows = 3] = layout.split("x").map(Number);
  return { layout, columns, rows };
}

/** The columns and rows for this many agents: those of the chosen layout, or of a smaller one that has room for all. */
export function gridFor(chosen: Layout, agents: number): { columns: number; rows: number } {
  const smaller = LAYOUTS.slice(0, LAYOUTS.indexOf(chosen)).map(layoutOf);
  return smaller.find(({ columns, rows }) => agents <= columns * rows) ?? layoutOf(chosen);
}

/** The part of a list that a page of the wall shows; a page beyond the last is the last. */
export function pageOf<Item>(items: readonly Item[], size: number, page: number): { page: number; pages: number; shown: Item[] } {
  const pages = Math.max(1, Math.ceil(items.length / size));
  const at = Math.min(Math.max(0, page), pages - 1);
  return { page: at, pages, shown: items.slice(at * size, (at + 1) * size) };
}
