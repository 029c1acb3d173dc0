import { AuthClient, isAuthRetryableFetchError, type AuthError, type GoTrueClient, type Provider } from "@supabase/auth-js";

import { offersOf, PASSWORD_ONLY, type Offers } from "./offers.ts";

/** The client of Supabase's Auth: a part of supabase-js, whose other parts the first page does not need. */
export type Auth = GoTrueClient;

/** The page's settings, public before sign-in. `supabase_url` is null if this server signs people in itself. */
export interface PageConfig {
  supabase_url: string | null;
  supabase_key: string;
  version: string;
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
    detectSessionInUrl: config.supabase_url !== null, // a project's links and providers lead back to this page
    flowType: "pkce",
  });
}

/** The address of the Supabase project, or of this server, which has Auth and Realtime built in. */
export function supabaseUrl(config: PageConfig): URL {
  return new URL(config.supabase_url ?? location.origin);
}

/** The ways to sign in; without an answer of the project's Auth, the password. */
export async function readOffers(config: PageConfig): Promise<Offers> {
  if (config.supabase_url === null) return PASSWORD_ONLY;
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

/** Signs in; returns null on success, else a message for the person. */
export async function signIn(auth: Auth, email: string, password: string): Promise<string | null> {
  return refusal((await auth.signInWithPassword({ email, password })).error);
}

/** Has the project send a link to an operator; returns null on success, else a message for the person. */
export async function sendLink(auth: Auth, email: string): Promise<string | null> {
  const options = { shouldCreateUser: false, emailRedirectTo: location.origin };
  return refusal((await auth.signInWithOtp({ email, options })).error);
}

/** Leaves for an OAuth provider, which leads back; returns a message for the person if that fails. */
export async function signInWith(auth: Auth, provider: string): Promise<string | null> {
  const options = { redirectTo: location.origin };
  return refusal((await auth.signInWithOAuth({ provider: provider as Provider, options })).error);
}

function refusal(error: AuthError | null): string | null {
  if (error === null) return null;
  if (isAuthRetryableFetchError(error)) return "The sign-in service cannot be reached. Try again in a moment.";
  switch (error.code) {
    case "invalid_credentials":
      return "This e-mail and password do not match.";
    case "over_request_rate_limit":
      return "Too many attempts. Wait a minute, then try again.";
    case "over_email_send_rate_limit":
      return "A link was sent a moment ago. Wait a minute, then try again.";
    case "otp_disabled":
      return "There is no account with this e-mail address.";
    case "user_banned":
      return "This account is disabled.";
    case "email_not_confirmed":
      return "This e-mail address has not been confirmed yet.";
    default:
      return error.message;
  }
}
