import { isAuthRetryableFetchError, type Session } from "@supabase/supabase-js";

import { Api, ApiError, type Tokens } from "./api.ts";
import { Inbox } from "./inbox.svelte.ts";
import { Readings } from "./stats.ts";
import { Halting } from "./halting.svelte.ts";
import { Live, type Mark } from "./live.ts";
import { createSupabase, hadSession, readConfig, signIn, type PageConfig, type Supabase } from "./session.ts";
import { Fleet } from "./fleet.svelte.ts";
import { Subscription } from "./subscription.ts";

export type Phase =
  | { name: "starting" }
  | { name: "failed"; why: string }
  | { name: "signed-out"; why: string | null }
  | { name: "signed-in"; workspace: Workspace };

const ENDED = "Your session has ended. Sign in again to go on.";

/** The page: who is signed in, and the workspace that they see. */
export class App {
  phase = $state.raw<Phase>({ name: "starting" });
  version = $state("");
  #supabase: Supabase | null = null;
  #leaving = false;

  async start(): Promise<void> {
    this.phase = { name: "starting" };
    let config: PageConfig;
    try {
      config = await readConfig();
    } catch (error) {
      const late = error instanceof DOMException || error instanceof TypeError;
      this.phase = { name: "failed", why: late ? "The server cannot be reached." : String((error as Error).message) };
      return;
    }
    this.version = config.version;
    const returning = hadSession();
    const supabase = createSupabase(config, (status) => {
      if (this.phase.name === "signed-in") this.phase.workspace.heartbeat(status);
    });
    this.#supabase = supabase;
    // The client holds its lock while it calls this: what it leads to must not ask the client anything at once.
    supabase.auth.onAuthStateChange((event, session) => {
      const why = event === "INITIAL_SESSION" && returning ? ENDED : event === "SIGNED_OUT" && !this.#leaving ? ENDED : null;
      setTimeout(() => this.#sessionChanged(session, why), 0);
    });
  }

  /** Null when it went well, else what to tell the person. */
  async signIn(email: string, password: string): Promise<string | null> {
    if (this.#supabase === null) return "The page is not ready yet.";
    this.#leaving = false;
    return signIn(this.#supabase, email, password);
  }

  async signOut(): Promise<void> {
    this.#leaving = true;
    this.#leave(null);
    // Only this browser's session: the person may be signed in elsewhere.
    await this.#supabase?.auth.signOut({ scope: "local" });
  }

  #sessionChanged(session: Session | null, why: string | null): void {
    const supabase = this.#supabase;
    if (supabase === null) return;
    if (session === null) {
      if (this.phase.name !== "signed-out") this.#leave(why);
      return;
    }
    if (this.#leaving) return;
    if (this.phase.name === "signed-in" && this.phase.workspace.userId === session.user.id) {
      this.phase.workspace.sessionRefreshed(session);
      return;
    }
    if (this.phase.name === "signed-in") this.phase.workspace.close();
    this.phase = { name: "signed-in", workspace: new Workspace(supabase, session, () => this.#ended()) };
  }

  /** The server knows the session no longer, whatever this browser thinks. */
  #ended(): void {
    this.#leave(ENDED);
    void this.#supabase?.auth.signOut({ scope: "local" });
  }

  #leave(why: string | null): void {
    if (this.phase.name === "signed-in") this.phase.workspace.close();
    this.phase = { name: "signed-out", why };
  }
}

/** What one signed-in person works with; made at sign-in, closed at sign-out. */
export class Workspace {
  readonly userId: string;
  readonly email: string;
  readonly api: Api;
  readonly fleet: Fleet;
  readonly inbox: Inbox;
  readonly halting: Halting;
  /** What the page of figures has read; it is there still when somebody comes back to it. */
  readonly readings = new Readings();
  mark = $state<Mark>("connecting");
  /** Until when the page was live (ms); null while it is, and before it ever was. */
  liveUntil = $state<number | null>(null);
  /** Grows when schedules have changed, or may have. */
  schedulesSeen = $state(0);
  /** The present access token: terminals pass each on to the server. */
  accessToken = $state("");

  readonly #supabase: Supabase;
  readonly #live = new Live((mark, until) => {
    this.mark = mark;
    this.liveUntil = until;
  });
  readonly #subscription: Subscription;
  readonly #ended: () => void;

  constructor(supabase: Supabase, session: Session, ended: () => void) {
    this.#supabase = supabase;
    this.#ended = ended;
    this.userId = session.user.id;
    this.email = session.user.email ?? "";
    this.accessToken = session.access_token;
    this.api = new Api(this.tokens);
    this.fleet = new Fleet(this.api);
    this.inbox = new Inbox(this.api);
    this.halting = new Halting(this.api);
    // First paint need not wait for Realtime; the reading that counts is the one after changes flow.
    void this.fleet.readUntilDone(() => undefined);
    this.#subscription = new Subscription(supabase, {
      change: (change) => this.fleet.change(change),
      noticed: (table) => {
        if (table === "halts" || table === "halt_agents") void this.halting.read();
        else if (table === "schedules") this.schedulesSeen += 1;
        else void this.inbox.read(table);
      },
      flowing: () => this.reread(),
      signal: (signals) => this.#live.set(signals),
    });
  }

  /** Where the API and the terminals get their access tokens. */
  readonly tokens: Tokens = {
    current: async () => {
      const { data, error } = await this.#supabase.auth.getSession();
      if (isAuthRetryableFetchError(error)) throw new ApiError(0, "The sign-in service cannot be reached.");
      return data.session?.access_token ?? null;
    },
    renewed: async () => {
      const { data, error } = await this.#supabase.auth.refreshSession();
      if (isAuthRetryableFetchError(error)) throw new ApiError(0, "The sign-in service cannot be reached.");
      if (error?.status === 429) throw new ApiError(429, "Too many requests to the sign-in service. Wait a minute.");
      if (data.session === null) this.#ended();
      return data.session?.access_token ?? null;
    },
  };

  reread(): void {
    this.schedulesSeen += 1;
    void this.halting.read();
    void this.fleet.readUntilDone(() => {
      this.#live.set({ current: true });
      this.inbox.open(this.fleet.me?.role);
    });
  }

  heartbeat(status: string): void {
    this.#subscription.heartbeat(status);
  }

  sessionRefreshed(session: Session): void {
    this.accessToken = session.access_token;
  }

  close(): void {
    this.#subscription.close();
    this.fleet.close();
    this.halting.close();
  }
}
