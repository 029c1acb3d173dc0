import { AuthClient, isAuthRetryableFetchError, type GoTrueClient } from "@supabase/auth-js";
import { RealtimeClient } from "@supabase/realtime-js";

import heartbeatWorker from "./heartbeat.worker.js?url&no-inline";

/** The two parts of supabase-js that the page uses. Its other parts would be a fifth of what the first page loads. */
export interface Supabase {
  readonly auth: GoTrueClient;
  readonly realtime: RealtimeClient;
}

/** The page's settings, public before sign-in. `supabase_url` is null if this server signs people in itself. */
export interface PageConfig {
  supabase_url: string | null;
  supabase_key: string;
  version: string;
}

const RECONNECT_MS = [250, 500, 1000, 2000, 4000];

export async function readConfig(): Promise<PageConfig> {
  const response = await fetch("/config.json", { cache: "no-store", signal: AbortSignal.timeout(15_000) });
  if (!response.ok) throw new Error(`The server answered ${response.status} to the request for the page's settings.`);
  return (await response.json()) as PageConfig;
}

/**
 * The Supabase clients, put together as supabase-js does: they store and refresh the session, and hold the Realtime connection.
 *
 * A worker sends its heartbeats: browsers slow down the timers of a hidden tab so much that the server would time out.
 */
export function createSupabase(config: PageConfig, onHeartbeat: (status: string) => void): Supabase {
  const url = new URL(config.supabase_url ?? location.origin);
  const key = config.supabase_key;
  const auth = new AuthClient({
    url: new URL("auth/v1", url).href,
    headers: { Authorization: `Bearer ${key}`, apikey: key },
    storageKey: `sb-${url.hostname.split(".")[0]}-auth-token`,
    persistSession: true,
    autoRefreshToken: true,
    detectSessionInUrl: false,
  });
  const realtime = new RealtimeClient(new URL("realtime/v1", url).href.replace(/^http/, "ws"), {
    params: { apikey: key },
    accessToken: async () => (await auth.getSession()).data.session?.access_token ?? key,
    worker: true,
    workerUrl: heartbeatWorker,
    heartbeatCallback: onHeartbeat,
    reconnectAfterMs: (tries: number) => jitter(RECONNECT_MS[tries - 1] ?? 5000),
  });
  let known: string | undefined;
  auth.onAuthStateChange((event, session) => {
    const token = session?.access_token;
    if (event === "SIGNED_OUT") {
      known = undefined;
      void realtime.setAuth();
    } else if (["TOKEN_REFRESHED", "SIGNED_IN", "INITIAL_SESSION"].includes(event) && token !== known) {
      known = token;
      void realtime.setAuth(token);
    }
  });
  return { auth, realtime };
}

function jitter(milliseconds: number): number {
  return milliseconds * (0.5 + Math.random() / 2);
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
export async function signIn(supabase: Supabase, email: string, password: string): Promise<string | null> {
  const { error } = await supabase.auth.signInWithPassword({ email, password });
  if (error === null) return null;
  if (isAuthRetryableFetchError(error)) return "The sign-in service cannot be reached. Try again in a moment.";
  switch (error.code) {
    case "invalid_credentials":
      return "This e-mail and password do not match.";
    case "over_request_rate_limit":
      return "Too many attempts. Wait a minute, then try again.";
    case "user_banned":
      return "This account is disabled.";
    case "email_not_confirmed":
      return "This e-mail address has not been confirmed yet.";
    default:
      return error.message;
  }
}
