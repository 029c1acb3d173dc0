import { isAuthRetryableFetchError, type Factor, type Session } from "@supabase/auth-js";

import { Api, ApiError, type Tokens } from "./api.ts";
import type { OpenRequests } from "./attention/list.svelte.ts";
import { Inbox } from "./inbox.svelte.ts";
import { Readings } from "./stats.ts";
import { Halting } from "./halting.svelte.ts";
import { Live, type Mark } from "./live.ts";
import { PASSWORD_ONLY, type Offers } from "./offers.ts";
import {
  createAuth,
  hadSession,
  isReturn,
  missingFactors,
  readConfig,
  readOffers,
  type Auth,
  type PageConfig,
} from "./session.ts";
import { Fleet } from "./fleet.svelte.ts";
import { Subscription } from "./subscription.ts";

export type Phase =
  | { name: "starting" }
  | { name: "failed"; why: string }
  | { name: "signed-out"; why: string | null }
  | { name: "second-factor"; factors: readonly Factor[] }
  | { name: "new-password" }
  | { name: "signed-in"; workspace: Workspace };

const ENDED = "Your session has ended. Sign in again.";

/** The page as a whole: the sign-in, and the workspace of the signed-in person. */
export class App {
  phase = $state.raw<Phase>({ name: "starting" });
  version = $state("");
  offers = $state.raw<Offers>(PASSWORD_ONLY);
  #client: { auth: Auth; config: PageConfig } | null = null;
  #leaving = false;
  /** Whether a link led here to set a new password. */
  #recovering = false;

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
    const address = new URL(location.href);
    const refused = isReturn(address) ? (await import("./sign-in.ts")).errorIn(address) : null;
    if (refused !== null) clearAddress(); // before the client reads it
    void readOffers(config).then((offers) => (this.offers = offers));
    const returning = hadSession();
    const auth = createAuth(config);
    this.#client = { auth, config };
    const returned = hasCode();
    const { error } = await auth.initialize(); // takes the code out of the address when it has led to a session
    let unused: string | null = null;
    if (hasCode()) {
      unused = (await import("./sign-in.ts")).codeRefused(error);
      clearAddress();
    }
    // The client calls this while it holds its lock: code that calls the client must run later, or it would wait forever.
    auth.onAuthStateChange((event, session) => {
      const ended = (event === "INITIAL_SESSION" && returning) || (event === "SIGNED_OUT" && !this.#leaving);
      const why = (event === "INITIAL_SESSION" ? (refused ?? unused) : null) ?? (ended ? ENDED : null);
      if (event === "PASSWORD_RECOVERY") this.#recovering = true;
      if (event === "USER_UPDATED" || event === "SIGNED_OUT") this.#recovering = false;
      setTimeout(() => this.#sessionChanged(session, why), 0);
    });
    if (returned) (await import("./sign-in.ts")).returnToPlace();
  }

  /** A step of signing in, which returns null on success, else a message for the person. */
  readonly enter: Enter = async (step) => {
    if (this.#client === null) return "The page is not ready yet.";
    this.#leaving = false;
    return step(this.#client.auth);
  };

  async signOut(): Promise<void> {
    this.#leaving = true;
    this.#leave(null);
    // This ends only the session of this browser: the person may be signed in elsewhere.
    await this.#client?.auth.signOut({ scope: "local" });
  }

  #sessionChanged(session: Session | null, why: string | null): void {
    const client = this.#client;
    if (client === null) return;
    if (session === null) {
      if (this.phase.name !== "signed-out") this.#leave(why);
      return;
    }
    if (this.#leaving) return;
    const factors = missingFactors(session);
    if (factors.length > 0 || this.#recovering) {
      if (this.phase.name === "signed-in") this.phase.workspace.close();
      this.phase = factors.length > 0 ? { name: "second-factor", factors } : { name: "new-password" };
      return;
    }
    if (this.phase.name === "signed-in" && this.phase.workspace.userId === session.user.id) {
      this.phase.workspace.sessionRefreshed(session);
      return;
    }
    if (this.phase.name === "signed-in") this.phase.workspace.close();
    this.phase = { name: "signed-in", workspace: new Workspace(client.auth, client.config, session, () => this.#ended()) };
  }

  /** The server rejects the session, even if this browser still holds it. */
  #ended(): void {
    this.#leave(ENDED);
    void this.#client?.auth.signOut({ scope: "local" });
  }

  #leave(why: string | null): void {
    if (this.phase.name === "signed-in") this.phase.workspace.close();
    this.phase = { name: "signed-out", why };
  }
}

/** Does a step of signing in. */
export type Enter = (step: (auth: Auth) => Promise<string | null>) => Promise<string | null>;

/** Removes what a link or a provider added to the page's address. */
/** Whether a link or a provider has led back to the page with a code for a session. */
function hasCode(): boolean {
  return new URLSearchParams(location.search).has("code");
}

function clearAddress(): void {
  history.replaceState(history.state, "", location.pathname);
}

/** State and connections of one signed-in person, from sign-in to sign-out. */
export class Workspace {
  readonly userId: string;
  readonly email: string;
  /** Whether the control center runs a demo. */
  readonly demo: boolean;
  readonly api: Api;
  readonly fleet: Fleet;
  readonly inbox: Inbox;
  readonly halting: Halting;
  /** How much waits for a person: requests of agents, alerts, and devices to approve. */
  get waiting(): number {
    return (this.requests?.rows.length ?? 0) + this.inbox.waiting;
  }
  /** The readings of the statistics page; they stay while another page is open. */
  readonly readings = new Readings();
  mark = $state<Mark>("connecting");
  /** When the page was last live (Unix time in ms); null while it is live, and before it first was. */
  liveUntil = $state<number | null>(null);
  /** Whether the server's database takes no changes, as far as this page knows. */
  readOnly = $state(false);
  /** Grows when schedules have changed or may have changed. */
  schedulesSeen = $state(0);
  /** Grows when reports have changed or may have changed. */
  reportsSeen = $state(0);
  /** The open requests of agents; null until their code is loaded, after the first paint. */
  requests = $state.raw<OpenRequests | null>(null);
  /** The present access token: terminals send each new one to the server. */
  accessToken = $state("");

  readonly #auth: Auth;
  readonly #live = new Live((mark, until) => {
    this.mark = mark;
    this.liveUntil = until;
  });
  readonly #subscription: Subscription;
  readonly #turnWatchers = new Map<string, Set<() => void>>();
  readonly #ended: () => void;
  #closed = false;

  constructor(auth: Auth, config: PageConfig, session: Session, ended: () => void) {
    this.#auth = auth;
    this.#ended = ended;
    this.userId = session.user.id;
    this.email = session.user.email ?? "";
    this.demo = config.demo;
    this.accessToken = session.access_token;
    this.api = new Api(this.tokens);
    this.api.readOnlyChanged = (readOnly) => (this.readOnly = readOnly);
    this.fleet = new Fleet(this.api);
    this.inbox = new Inbox(this.api);
    this.halting = new Halting(this.api);
    // The first paint does not wait for Realtime; `flowing` reads again, so that no change is missed.
    void this.fleet.readUntilDone(() => undefined);
    const connect = async (onHeartbeat: (status: string) => void) =>
      (await import("./realtime.ts")).connectRealtime(config, auth, onHeartbeat);
    this.#subscription = new Subscription(connect, {
      change: (change) => this.fleet.change(change),
      reread: (table, record) => {
        if (table === "halts" || table === "halt_agents") void this.halting.read();
        else if (table === "schedules") this.schedulesSeen += 1;
        else if (table === "reports") this.reportsSeen += 1;
        else if (table === "attention") void this.#readRequests(record);
        else void this.inbox.read(table);
      },
      progress: (progress) => {
        this.fleet.lines.change(progress);
        this.#turnWatchers.get(progress.command_id)?.forEach((watcher) => watcher());
      },
      flowing: () => this.reread(),
      signal: (signals) => this.#live.set(signals),
    });
  }

  /** Access tokens for the API and the terminals. */
  readonly tokens: Tokens = {
    current: async () => {
      const { data, error } = await this.#auth.getSession();
      if (isAuthRetryableFetchError(error)) throw new ApiError(0, "The sign-in service cannot be reached.");
      return data.session?.access_token ?? null;
    },
    renewed: async () => {
      const { data, error } = await this.#auth.refreshSession();
      if (isAuthRetryableFetchError(error)) throw new ApiError(0, "The sign-in service cannot be reached.");
      if (error?.status === 429) throw new ApiError(429, "Too many requests to the sign-in service. Wait a minute.");
      if (data.session === null) this.#ended();
      return data.session?.access_token ?? null;
    },
  };

  /** Calls `watcher` when the command's turn has, or may have, come further; the returned function stops this. */
  watchTurn(commandId: string, watcher: () => void): () => void {
    const watchers = this.#turnWatchers.get(commandId) ?? new Set();
    this.#turnWatchers.set(commandId, watchers.add(watcher));
    return () => {
      watchers.delete(watcher);
      if (watchers.size === 0) this.#turnWatchers.delete(commandId);
    };
  }

  reread(): void {
    for (const watchers of this.#turnWatchers.values()) watchers.forEach((watcher) => watcher());
    this.schedulesSeen += 1;
    this.reportsSeen += 1;
    void this.#readRequests(null);
    void this.halting.read();
    void this.fleet.readUntilDone(() => {
      this.#live.set({ current: true });
      this.inbox.open(this.fleet.me?.role);
    });
  }

  /** Takes a change of a request, null when any may have changed. */
  async #readRequests(record: Record<string, unknown> | null): Promise<void> {
    try {
      const { changedRequest, OpenRequests } = await import("./attention/list.svelte.ts");
      if (this.#closed) return;
      const known = this.requests !== null;
      this.requests ??= new OpenRequests(this.api);
      this.requests.changed(known ? changedRequest(record) : null);
    } catch {
      return; // the code could not be loaded: the next change or reconnect tries again
    }
  }

  sessionRefreshed(session: Session): void {
    this.accessToken = session.access_token;
  }

  close(): void {
    this.#closed = true;
    this.requests?.close();
    this.#subscription.close();
    this.fleet.close();
    this.halting.close();
  }
}
