import { RealtimeClient } from "@supabase/realtime-js";

import heartbeatWorker from "./heartbeat.worker.js?url&no-inline";
import { supabaseUrl, type Auth, type PageConfig } from "./session.ts";

const RECONNECT_MS = [250, 500, 1000, 2000, 4000];

/** A connection to Supabase's Realtime, and the end of it. */
export interface RealtimeConnection {
  readonly client: RealtimeClient;
  close(): void;
}

/**
 * Connects to Realtime as the signed-in person, as supabase-js does: each new access token is passed on.
 *
 * A worker sends the heartbeats: browsers slow down the timers of a hidden tab so much that the server would time out.
 */
export function connectRealtime(config: PageConfig, auth: Auth, onHeartbeat: (status: string) => void): RealtimeConnection {
  const client = new RealtimeClient(new URL("realtime/v1", supabaseUrl(config)).href.replace(/^http/, "ws"), {
    params: { apikey: config.supabase_key },
    accessToken: async () => (await auth.getSession()).data.session?.access_token ?? config.supabase_key,
    worker: true,
    workerUrl: heartbeatWorker,
    heartbeatCallback: onHeartbeat,
    reconnectAfterMs: (tries: number) => jitter(RECONNECT_MS[tries - 1] ?? 5000),
  });
  let known: string | undefined;
  const { data } = auth.onAuthStateChange((_event, session) => {
    const token = session?.access_token;
    if (token === undefined || token === known) return;
    known = token;
    void client.setAuth(token);
  });
  return {
    client,
    close: () => {
      data.subscription.unsubscribe();
      void client.disconnect();
    },
  };
}

function jitter(milliseconds: number): number {
  return milliseconds * (0.5 + Math.random() / 2);
}
