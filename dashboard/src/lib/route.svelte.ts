/** Which agent the address names: `#/agents/<name>`, so that a reload, a bookmark and the back button keep it. */
class Route {
  agent = $state(read());

  constructor() {
    addEventListener("hashchange", () => (this.agent = read()));
  }

  go(agent: string): void {
    if (agent !== this.agent) location.hash = `#/agents/${encodeURIComponent(agent)}`;
  }
}

function read(): string | null {
  const found = /^#\/agents\/([^/]+)$/.exec(location.hash)?.[1];
  return found === undefined ? null : decodeURIComponent(found);
}

export const route = new Route();
