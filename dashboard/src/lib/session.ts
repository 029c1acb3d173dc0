import { createClient, isAuthRetryableFetchError, type SupabaseClient } from "@supabase/supabase-js";

import heartbeatWorker from "./heartbeat.worker.js?url&no-inline";

export type Supabase = SupabaseClient;

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
 * The Supabase client: it stores and refreshes the session, and holds the Realtime connection.
 *
 * A worker sends its heartbeats: browsers slow down the timers of a hidden tab so much that the server would time out.
 */
export function createSupabase(config: PageConfig, onHeartbeat: (status: string) => void): Supabase {
  return createClient(config.supabase_url ?? location.origin, config.supabase_key, {
    auth: { persistSession: true, autoRefreshToken: true, detectSessionInUrl: false },
    realtime: {
      worker: true,
      workerUrl: heartbeatWorker,
      heartbeatCallback: onHeartbeat,
      reconnectAfterMs: (tries: number) => jitter(RECONNECT_MS[tries - 1] ?? 5000),
    },
  });
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
