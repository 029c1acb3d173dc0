import { SvelteMap } from "svelte/reactivity";

import { Api, ApiError } from "./api.ts";
import { Backoff } from "./backoff.ts";
import { CatchUp } from "./catch-up.ts";
import { ACTIVE_STATES, FINAL_STATES } from "./protocol.ts";
import type { Work } from "./fleet-list/entry.ts";
import { LastLines } from "./last-lines.svelte.ts";
import type { Agent, AgentNow, Command, Me } from "./rest.ts";
import { byQueue, completed, isStaleAgent, isStaleCommand, newestFirst } from "./rows.ts";
import type { Change } from "./subscription.ts";

const PAGE = 50;
/** Made once: comparing by the locale costs a large fleet milliseconds otherwise. */
const NAMES = new Intl.Collator();

interface Snapshot {
  me: Me;
  agents: AgentNow[];
  active: Command[];
  lines: Record<string, string>;
  selected: Selected | null;
}

interface Selected {
  agentId: string;
  /** The newest commands in any state, and the queued commands: one page of the API each. */
  newest: Command[];
  waiting: Command[];
  lines: Record<string, string>;
  nextBefore: number | null;
  moreWaiting: boolean;
}

/**
 * The fleet as it is in the database: a snapshot by REST, updated by changes.
 *
 * It holds the dispatched and running commands of every agent, and the commands of the selected agent as far back as they
 * were loaded: memory does not grow with the fleet's history.
 */
export class Fleet {
  readonly agents = new SvelteMap<string, Agent>();
  readonly commands = new SvelteMap<string, Command>();
  /** What waits for each agent and how its last command ended, as it was last read. */
  readonly work = new SvelteMap<string, Work>();
  readonly lines = new LastLines();
  me = $state<Me | null>(null);
  /** False until the first snapshot has arrived. */
  loaded = $state(false);
  /** The error of the last reading; null if it succeeded. */
  problem = $state<ApiError | null>(null);
  selectedId = $state<string | null>(null);
  /** Whether the commands of the selected agent have arrived. */
  selectedLoaded = $state(false);
  moreWaiting = $state(false);
  hasOlder = $state(false);
  readingOlder = $state(false);

  readonly api: Api;
  readonly #catchUp = new CatchUp<Change>((change) => this.#apply(change));
  readonly #backoff = new Backoff(1000, 15_000);
  readonly #watchers = new Set<(change: Change | null) => void>();
  #nextBefore: number | null = null;
  #round = 0;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(api: Api) {
    this.api = api;
  }

  readonly agentsByName = $derived([...this.agents.values()].sort((a, b) => NAMES.compare(a.name, b.name)));
  readonly activeByAgent = $derived(
    new Map([...this.commands.values()].filter((c) => ACTIVE_STATES.has(c.state)).map((c) => [c.agent_id, c])),
  );
  readonly selected = $derived(this.selectedId === null ? null : (this.agents.get(this.selectedId) ?? null));
  readonly #ofSelected = $derived([...this.commands.values()].filter((c) => c.agent_id === this.selectedId));
  readonly active = $derived(this.#ofSelected.find((c) => ACTIVE_STATES.has(c.state)) ?? null);
  readonly waiting = $derived(this.#ofSelected.filter((c) => c.state === "queued").sort(byQueue));
  readonly history = $derived(this.#ofSelected.filter((c) => FINAL_STATES.has(c.state)).sort(newestFirst));

  close(): void {
    clearTimeout(this.#retryTimer);
    this.lines.close();
    this.#round += 1;
  }

  /** Takes in a change that arrived by Realtime. */
  change(change: Change): void {
    this.#catchUp.change(change);
    for (const watcher of this.#watchers) watcher(change);
  }

  /** Calls `watcher` with each change, and with null when changes may have been missed; the returned function stops this. */
  watch(watcher: (change: Change | null) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Takes in a row that arrived as the answer to a request of this page. */
  answered(row: Command): void {
    this.#catchUp.change({ table: "commands", id: row.id, row, whole: true });
  }

  /** Like `answered`, for an agent's row. */
  answeredAgent(row: Agent): void {
    this.#catchUp.change({ table: "agents", id: row.id, row });
  }

  /** Takes in what waits for agents and how their last commands ended. */
  tookWork(agents: readonly AgentNow[]): void {
    for (const { id, queued, last_command: last } of agents) this.work.set(id, { queued, last });
  }

  /** Reads everything that is shown again; returns whether this succeeded. */
  async read(): Promise<boolean> {
    clearTimeout(this.#retryTimer);
    const round = ++this.#round;
    try {
      await this.#catchUp.read(
        () => this.#readSnapshot(),
        (snapshot) => {
          if (round === this.#round) this.#take(snapshot);
        },
      );
      if (round !== this.#round) return false;
      this.problem = null;
      this.#backoff.reset();
      for (const watcher of this.#watchers) watcher(null);
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (round !== this.#round) return false;
      this.problem = error;
      return false;
    }
  }

  /** Reads until it succeeds, then calls `then`: after a passing failure it retries with growing delays. */
  async readUntilDone(then: () => void): Promise<void> {
    const reading = this.read();
    const round = this.#round;
    if (await reading) then();
    else if (round === this.#round && this.problem?.isPassing) {
      this.#retryTimer = setTimeout(() => void this.readUntilDone(then), 500 + this.#backoff.next());
    }
  }

  /** Selects the agent whose commands are shown. */
  async select(agentId: string | null): Promise<void> {
    if (agentId === this.selectedId) return;
    this.selectedId = agentId;
    this.selectedLoaded = false;
    this.hasOlder = this.moreWaiting = false;
    this.#nextBefore = null;
    this.#forgetOthers();
    if (agentId === null || !this.loaded) return;
    try {
      await this.#catchUp.read(
        () => this.#readSelected(agentId),
        (selected) => this.#takeSelected(selected),
      );
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem = error;
    }
  }

  /** Reads one more page of the selected agent's history. Raises ApiError. */
  async readOlder(): Promise<void> {
    const agentId = this.selectedId;
    const before = this.#nextBefore;
    if (agentId === null || before === null || this.readingOlder) return;
    this.readingOlder = true;
    try {
      await this.#catchUp.read(
        () => this.api.get("/v1/commands", { params: { query: { agent_id: agentId, before, limit: PAGE } } }),
        (page) => {
          if (this.selectedId !== agentId) return;
          for (const row of page.commands) this.#put(row);
          this.lines.took(page.last_lines);
          this.#nextBefore = page.next_before;
          this.hasOlder = page.next_before !== null;
        },
      );
    } finally {
      this.readingOlder = false;
    }
  }

  async #readSnapshot(): Promise<Snapshot> {
    const agentId = this.selectedId;
    const [me, { agents }, dispatched, running, selected] = await Promise.all([
      this.api.get("/v1/me"),
      this.api.get("/v1/agents"),
      this.api.allCommands({ state: "dispatched" }),
      this.api.allCommands({ state: "running" }),
      agentId === null ? null : this.#readSelected(agentId),
    ]);
    // A command that is dispatched in the first answer may be running in the second: the later reading is newer.
    const active = [...dispatched.commands, ...running.commands];
    return { me, agents, active, lines: running.lines, selected };
  }

  async #readSelected(agentId: string): Promise<Selected> {
    const [newest, waiting] = await Promise.all([
      this.api.get("/v1/commands", { params: { query: { agent_id: agentId, limit: PAGE } } }),
      this.api.get("/v1/commands", { params: { query: { agent_id: agentId, state: "queued", limit: 200 } } }),
    ]);
    return {
      agentId,
      newest: newest.commands,
      waiting: waiting.commands,
      lines: newest.last_lines,
      nextBefore: newest.next_before,
      moreWaiting: waiting.next_before !== null,
    };
  }

  #take(snapshot: Snapshot): void {
    this.me = snapshot.me;
    const named = new Set(snapshot.agents.map((agent) => agent.id));
    for (const id of this.agents.keys()) if (!named.has(id)) this.agents.delete(id);
    for (const agent of snapshot.agents) this.#putAgent(agent);
    this.tookWork(snapshot.agents);
    this.lines.took(snapshot.lines);

    const selected = snapshot.selected?.agentId === this.selectedId ? snapshot.selected : null;
    const shown = [...snapshot.active, ...(selected?.waiting ?? []), ...(selected?.newest ?? [])];
    const found = new Set(shown.map((command) => command.id));
    // A command that had not ended and is in none of the answers has ended meanwhile, further back than was read.
    for (const [id, command] of this.commands)
      if (!FINAL_STATES.has(command.state) && !found.has(id)) this.commands.delete(id);
    for (const command of snapshot.active) this.#put(command);
    if (selected !== null) this.#takeSelected(selected);
    this.loaded = true;
    if (selected === null && this.selectedId !== null) {
      const id = this.selectedId;
      this.selectedId = null;
      void this.select(id); // the person selected it while the snapshot was read
    }
  }

  #takeSelected(selected: Selected): void {
    if (selected.agentId !== this.selectedId) return;
    for (const command of [...selected.waiting, ...selected.newest]) this.#put(command);
    this.lines.took(selected.lines);
    if (!this.selectedLoaded) {
      this.#nextBefore = selected.nextBefore;
      this.hasOlder = selected.nextBefore !== null;
    }
    this.moreWaiting = selected.moreWaiting;
    this.selectedLoaded = true;
  }

  #apply(change: Change): void {
    if (change.table === "agents") {
      if (change.row !== null) this.#putAgent(change.row);
      else if (this.agents.delete(change.id)) {
        this.work.delete(change.id);
        this.lines.forgetAgent(change.id);
      }
      return;
    }
    if (change.row === null) {
      this.commands.delete(change.id);
      return;
    }
    const row = change.whole || this.commands.has(change.id) ? completed(this.commands.get(change.id), change.row) : null;
    if (row !== null) this.#put(row);
    else if (this.#isShown(change.row)) void this.#readOne(change.id);
  }

  async #readOne(id: string): Promise<void> {
    try {
      this.answered(await this.api.get("/v1/commands/{command_id}", { params: { path: { command_id: id } } }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status !== 404) this.problem = error;
    }
  }

  #putAgent(agent: Agent): void {
    const known = this.agents.get(agent.id);
    if (known === undefined || !isStaleAgent(known, agent)) this.agents.set(agent.id, agent);
  }

  #put(command: Command): void {
    const known = this.commands.get(command.id);
    if (known !== undefined && isStaleCommand(known, command)) return;
    if (this.#isShown(command)) this.commands.set(command.id, command);
    else this.commands.delete(command.id);
  }

  #isShown(command: Partial<Command>): boolean {
    return (
      command.agent_id === undefined ||
      command.agent_id === this.selectedId ||
      (command.state !== undefined && ACTIVE_STATES.has(command.state))
    );
  }

  #forgetOthers(): void {
    for (const [id, command] of this.commands) if (!this.#isShown(command)) this.commands.delete(id);
    this.lines.forget(new Set(this.commands.keys()));
  }
}
