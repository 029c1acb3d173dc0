import { AuthClient, type Factor, type GoTrueClient, type Session } from "@supabase/auth-js";

import { offersOf, PASSWORD_ONLY, type Offers } from "./offers.ts";

/** The client of Supabase's Auth: a part of supabase-js, whose other parts the first page does not need. */
export type Auth = GoTrueClient;

/** The page's settings, public before sign-in. `supabase_url` is null if this server signs people in itself. */
export interface PageConfig {
  supabase_url: string | null;
  supabase_key: string;
  /** Whether links to sign in, and to set a new password, are sent by e-mail. */
  sends_links: boolean;
  version: string;
  /** Whether the control center runs a demo. */
  demo: boolean;
}

export async function readConfig(): Promise<PageConfig> {
  const response = await fetch("/config.json", { cache: "no-store", signal: AbortSignal.timeout(15_000) });
  if (!response.ok) throw new Error(`The server answered ${response.status} to the request for the page's settings.`);
  return (await response.json()) as PageConfig;
}

/** The client that signs people in, and stores and refreshes their session, with the settings of supabase-js. */
export function createAuth(config: PageConfig): Auth {
  const url = supabaseUrl(config);
  return new AuthClient({
    url: new URL("auth/v1", url).href,
    headers: { Authorization: `Bearer ${config.supabase_key}`, apikey: config.supabase_key },
    storageKey: `sb-${url.hostname.split(".")[0]}-auth-token`,
    persistSession: true,
    autoRefreshToken: true,
    detectSessionInUrl: true, // links and providers lead back to this page
    flowType: "pkce",
  });
}

/** The address of the Supabase project, or of this server, which has Auth and Realtime built in. */
export function supabaseUrl(config: PageConfig): URL {
  return new URL(config.supabase_url ?? location.origin);
}

/** The ways to sign in; without an answer of the project's Auth, the password. */
export async function readOffers(config: PageConfig): Promise<Offers> {
  if (config.supabase_url === null) return { ...PASSWORD_ONLY, link: config.sends_links };
  try {
    const response = await fetch(new URL("auth/v1/settings", supabaseUrl(config)), {
      headers: { apikey: config.supabase_key },
      signal: AbortSignal.timeout(10_000),
    });
    return response.ok ? offersOf(await response.json()) : PASSWORD_ONLY;
  } catch {
    return PASSWORD_ONLY;
  }
}

/** Whether an earlier visit left a session here. Call this before the client is created: it removes an ended session. */
export function hadSession(): boolean {
  try {
    return Object.keys(localStorage).some((key) => /^sb-.*-auth-token$/.test(key));
  } catch {
    return false; // the browser denies storage: no session is kept between visits
  }
}

/** The verified second factors of an account, if its session was begun without one. */
export function missingFactors(session: Session): Factor[] {
  const verified = (session.user.factors ?? []).filter((factor) => factor.status === "verified");
  return verified.length > 0 && assurance(session.access_token) !== "aal2" ? verified : [];
}

function assurance(token: string): unknown {
  const claims = atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"));
  return (JSON.parse(claims) as Record<string, unknown>)["aal"];
}

/** Whether the address may be one to which a link by e-mail or an OAuth provider leads. */
export function isReturn(address: URL): boolean {
  return /[?#&](code|error|error_code|access_token)=/.test(address.search + address.hash);
}
