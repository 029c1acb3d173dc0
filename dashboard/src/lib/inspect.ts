import type { Place } from "./terminal/flow.ts";

/**
 * `window.onsembl`: what automated tests and curious people may read off the page. It only looks.
 *
 * - `terminal.text()`: scrollback and screen of the terminal that is shown, wrapped lines joined; "" without one.
 * - `terminal.place()`: `{streamId, offset}` of the next byte that it lacks; null without one.
 * - `terminal.renderer()`: `webgl`, `dom`, or null.
 */
export interface Inspection {
  terminal: {
    text(): string;
    place(): Place | null;
    renderer(): "webgl" | "dom" | null;
  };
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

/** This terminal is on the page now; null when none is. */
export function inspectTerminal(session: Shown | null): void {
  shown = session;
}

window.onsembl = {
  terminal: {
    text: () => shown?.screen.text() ?? "",
    place: () => shown?.place ?? null,
    renderer: () => shown?.screen.renderer ?? null,
  },
};
