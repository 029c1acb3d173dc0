import { expect, test } from "vitest";

import { offersOf, PASSWORD_ONLY, providerLabel } from "./offers.ts";

test("a project offers what its settings enable", () => {
  const external = { email: true, phone: true, anonymous_users: true, google: true, github: true, azure: false };
  expect(offersOf({ external })).toEqual({ password: true, link: true, providers: ["github", "google"] });
  expect(offersOf({ external: { email: false, keycloak: true } })).toEqual({
    password: false,
    link: false,
    providers: ["keycloak"],
  });
});

test("settings that cannot be read leave the password", () => {
  for (const settings of [null, "no", {}, { external: null }]) expect(offersOf(settings)).toEqual(PASSWORD_ONLY);
});

test("providers have their own names", () => {
  expect(["github", "google", "slack_oidc"].map(providerLabel)).toEqual(["GitHub", "Google", "Slack oidc"]);
});
