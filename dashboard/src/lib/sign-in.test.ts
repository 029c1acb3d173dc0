import type { Session } from "@supabase/auth-js";
import { describe, expect, it } from "vitest";

import { isReturn, missingFactors } from "./session.ts";
import { errorIn } from "./sign-in.ts";

const PAGE = "https://onsembl.example/";
const DENIED = "error=access_denied&error_code=user_denied&error_description=The+user+said+no";

describe("the address to which a provider or a link leads back", () => {
  it.each([
    [`${PAGE}?${DENIED}`, "The sign-in did not succeed: The user said no"],
    [`${PAGE}#${DENIED}`, "The sign-in did not succeed: The user said no"],
    [`${PAGE}?error=server_error`, "The sign-in did not succeed: server_error"],
    [`${PAGE}#error=access_denied&error_code=otp_expired`, "The link has expired or was used before. Ask for a new one."],
    [`${PAGE}#access_token=x&refresh_token=y&type=recovery`, "This link does not work here. Ask for a new one on this page."],
    [`${PAGE}?error_code=x&error_description=${"y".repeat(5000)}`, `The sign-in did not succeed: ${"y".repeat(300)}`],
  ])("tells the error of %s", (address, message) => {
    expect(isReturn(new URL(address))).toBe(true);
    expect(errorIn(new URL(address))).toBe(message);
  });

  it.each([PAGE, `${PAGE}?code=abc`, `${PAGE}#/agents/1`, `${PAGE}?decode=1#/search?q=code`])("has no error in %s", (address) => {
    expect(errorIn(new URL(address))).toBeNull();
  });

  it.each([PAGE, `${PAGE}#/agents/1`, `${PAGE}?decode=1`])("is not %s", (address) => {
    expect(isReturn(new URL(address))).toBe(false);
  });
});

describe("the second factors that a session lacks", () => {
  const factor = (status: string) => ({ id: status, status, factor_type: "totp" });
  const session = (aal: string, ...factors: object[]) =>
    ({ access_token: `h.${btoa(JSON.stringify({ aal, name: "?>~" }))}.s`, user: { factors } }) as unknown as Session;

  it("are the verified ones of a session without one", () => {
    expect(missingFactors(session("aal1", factor("verified"), factor("unverified")))).toEqual([factor("verified")]);
    expect(missingFactors(session("aal2", factor("verified")))).toEqual([]);
    expect(missingFactors(session("aal1", factor("unverified")))).toEqual([]);
    expect(missingFactors({ access_token: "opaque", user: {} } as unknown as Session)).toEqual([]);
  });
});
