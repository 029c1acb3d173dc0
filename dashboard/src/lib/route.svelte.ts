/**
 * What the address names: `#/agents/<name>` an agent of the fleet, `#/<page>/<part>…?<query>` another page. So a reload,
 * a bookmark and the back button keep it.
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

  /** What follows the page's id. */
  get rest(): string[] {
    return this.#at.parts.slice(1);
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.#at.query);
  }

  go(agent: string): void {
    if (agent !== this.agent) location.hash = addressOf(["agents", agent]);
  }

  /** To another page. `replace` leaves no step for the back button. */
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

/** The address within the page, for links. */
export function addressOf(parts: string[], query = new URLSearchParams()): string {
  const search = query.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${search === "" ? "" : `?${search}`}`;
}

function read(): { parts: string[]; query: string } {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { parts: path.split("/").filter(Boolean).map(decoded), query };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand: not an escape
  }
}

export const route = new Route();
