import { createClient, isAuthRetryableFetchError, type SupabaseClient } from "@supabase/supabase-js";

import heartbeatWorker from "./heartbeat.worker.js?url&no-inline";

export type Supabase = SupabaseClient;

/** What the page is told before anyone has signed in. `supabase_url` is null when this very server signs in. */
export interface PageConfig {
  supabase_url: string | null;
  supabase_key: string;
  version: string;
}

const RECONNECT_MS = [250, 500, 1000, 2000, 4000];

export async function readConfig(): Promise<PageConfig> {
  const response = await fetch("/config.json", { cache: "no-store", signal: AbortSignal.timeout(15_000) });
  if (!response.ok) throw new Error(`The server answered ${response.status} when asked for its settings.`);
  return (await response.json()) as PageConfig;
}

/**
 * The one client of Supabase: it keeps and refreshes the session, and holds the Realtime connection.
 *
 * Its heartbeats come from a worker, since browsers slow a hidden tab's timers down below what the server waits for.
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

/** Whether a session was left here by an earlier visit; read before the client does, who removes one that has ended. */
export function hadSession(): boolean {
  try {
    return Object.keys(localStorage).some((key) => /^sb-.*-auth-token$/.test(key));
  } catch {
    return false; // storage is denied: nothing is kept between visits
  }
}

/** Sign in; null when it went well, else what to tell the person. */
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
