import type { Place } from "./terminal/flow.ts";

/**
 * `window.onsembl`: a read-only view of the page for automated tests and debugging.
 *
 * - `terminal.text()`: scrollback and screen of the shown terminal, wrapped lines joined; "" without a terminal.
 * - `terminal.place()`: `{streamId, offset}` of the next byte that the terminal lacks; null without a terminal.
 * - `terminal.renderer()`: `webgl`, `dom`, or null.
 * - `tile(name)`: the text of the screen in the tile of this agent on the wall; "" without one.
 */
export interface Inspection {
  terminal: {
    text(): string;
    place(): Place | null;
    renderer(): "webgl" | "dom" | null;
  };
  tile(name: string): string;
}

declare global {
  interface Window {
    onsembl: Inspection;
  }
}

interface Shown {
  readonly place: Place;
  readonly screen: { text(): string; readonly renderer: "webgl" | "dom" };
}

let shown: Shown | null = null;

/** Sets the terminal that the page shows; null when it shows none. */
export function inspectTerminal(session: Shown | null): void {
  shown = session;
}

const tiles = new Map<string, { text(): string }>();

/** Sets the tile of an agent on the wall; null when it has left. */
export function inspectTile(name: string, tile: { text(): string } | null): void {
  if (tile === null) tiles.delete(name);
  else tiles.set(name, tile);
}

window.onsembl = {
  terminal: {
    text: () => shown?.screen.text() ?? "",
    place: () => shown?.place ?? null,
    renderer: () => shown?.screen.renderer ?? null,
  },
  tile: (name) => tiles.get(name)?.text() ?? "",
};
