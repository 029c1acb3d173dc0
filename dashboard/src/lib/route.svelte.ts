/**
 * The part of the page that the address names: `#/agents/<name>` an agent of the fleet, `#/<page>/<part>…?<query>`
 * another page. A reload, a bookmark and the back button therefore lead to the same view.
 */
class Route {
  #at = $state.raw(read());

  constructor() {
    addEventListener("hashchange", () => (this.#at = read()));
  }

  /** The page's id; null for the fleet. */
  get page(): string | null {
    const [first] = this.#at.parts;
    return first === undefined || first === "agents" ? null : first;
  }

  /** The agent that the fleet shows; null when the address names none. */
  get agent(): string | null {
    const [first, name] = this.#at.parts;
    return first === "agents" ? (name ?? null) : null;
  }

  /** The parts of the address after the page's id. */
  get rest(): string[] {
    return this.#at.parts.slice(1);
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.#at.query);
  }

  go(agent: string): void {
    if (agent !== this.agent) location.hash = addressOf(["agents", agent]);
  }

  /** Goes to another page. With `replace`, the back button does not return to the present one. */
  open(parts: string[], query = new URLSearchParams(), replace = false): void {
    const hash = addressOf(parts, query);
    if (hash === location.hash) return;
    if (!replace) {
      location.hash = hash;
      return;
    }
    history.replaceState(history.state, "", hash);
    this.#at = read();
  }
}

/** The address of a view, for links. */
export function addressOf(parts: string[], query = new URLSearchParams()): string {
  const search = query.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${search === "" ? "" : `?${search}`}`;
}

/** Earlier ids of pages, which bookmarks may have, and the present ids. */
const EARLIER_IDS = new Map([["figures", "statistics"]]);

function read(): { parts: string[]; query: string } {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [first, ...rest] = path.split("/").filter(Boolean).map(decoded);
  return { parts: first === undefined ? [] : [EARLIER_IDS.get(first) ?? first, ...rest], query };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a percent sign that was typed by hand is not an escape
  }
}

export const route = new Route();
