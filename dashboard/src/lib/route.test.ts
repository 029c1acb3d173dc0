import { afterEach, describe, expect, test, vi } from "vitest";

import { PAGES } from "./pages.ts";

/** The route that a page opened at this address reads. */
async function opened(hash: string) {
  vi.resetModules();
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("location", { hash });
  return (await import("./route.svelte.ts")).route;
}

afterEach(() => void vi.unstubAllGlobals());

describe("the address", () => {
  test.each(["#/statistics", "#/figures", "#/figures?since=1"])("%s opens the statistics", async (hash) => {
    expect(PAGES.map((page) => page.id)).toContain((await opened(hash)).page);
    expect((await opened(hash)).page).toBe("statistics");
  });

  test("names an agent of the fleet, or another page with its parts and query", async () => {
    expect((await opened("#/agents/a%2Fb")).agent).toBe("a/b");
    const { page, agent, rest, query } = await opened("#/recordings/one/two?at=5");
    expect([page, agent, rest, query.get("at")]).toEqual(["recordings", null, ["one", "two"], "5"]);
  });

  test("is the fleet's when it names nothing", async () => {
    for (const hash of ["", "#", "#/", "#//"]) expect((await opened(hash)).page).toBe(null);
  });
});
