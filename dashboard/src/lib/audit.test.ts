import { describe, expect, it } from "vitest";

import { filterOf, addressQuery } from "./audit.ts";

describe("the audit log's filter", () => {
  it("is the same after a way through the address", () => {
    const filter = { text: "a b", action: "agent.", since: "2026-01-31T12:30", outcome: "refused" };
    expect(filterOf(addressQuery(filter))).toEqual(filter);
  });

  it("writes times with their offset", () => {
    expect(addressQuery({ since: "2026-01-31T12:30" }).get("since")).toMatch(/^2026-0[12]-\d\dT\d\d:30:00\.000Z$/);
  });

  it("leaves out empty fields and invalid times", () => {
    expect(addressQuery({ text: "  ", since: "soon" }).toString()).toBe("");
    expect(filterOf(new URLSearchParams("since=soon&text="))).toEqual({});
  });
});
