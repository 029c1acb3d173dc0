/** The ways to sign in that the Supabase project offers. */
export interface Offers {
  /** E-mail and password. */
  password: boolean;
  /** A link that is sent by e-mail. */
  link: boolean;
  /** The names of OAuth providers, such as `github`. */
  providers: readonly string[];
}

/** The built-in Supabase's ways, and those to try while a project's are not known. */
export const PASSWORD_ONLY: Offers = { password: true, link: false, providers: [] };

/** Entries of a project's settings that are no OAuth providers. */
const OTHER_WAYS = new Set(["email", "phone", "anonymous_users", "web3_solana", "web3_ethereum"]);

/** The ways to sign in of a project whose Auth gives these settings. */
export function offersOf(settings: unknown): Offers {
  const external = isRecord(settings) ? settings["external"] : null;
  if (!isRecord(external)) return PASSWORD_ONLY;
  const names = Object.keys(external).filter((name) => external[name] === true);
  const email = names.includes("email");
  return { password: email, link: email, providers: names.filter((name) => !OTHER_WAYS.has(name)).sort() };
}

/** A provider's name for people. */
export function providerLabel(name: string): string {
  const LABELS: Record<string, string> = { github: "GitHub", gitlab: "GitLab", linkedin_oidc: "LinkedIn", workos: "WorkOS" };
  return LABELS[name] ?? name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
