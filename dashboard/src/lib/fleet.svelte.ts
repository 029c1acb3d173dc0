import { SvelteMap } from "svelte/reactivity";

import { Api, ApiError } from "./api.ts";
import { Backoff } from "./backoff.ts";
import { CatchUp } from "./catch-up.ts";
import { ACTIVE_STATES, FINAL_STATES, type Agent, type Command, type Me } from "./protocol.ts";
import { byLine, completed, isStaleAgent, isStaleCommand, newestFirst } from "./rows.ts";
import type { Change } from "./subscription.ts";

const PAGE = 50;

interface Snapshot {
  me: Me;
  agents: Agent[];
  active: Command[];
  selected: Selected | null;
}

interface Selected {
  agentId: string;
  /** The newest commands, whatever their state, and all that wait, as far as one page of the API goes. */
  newest: Command[];
  waiting: Command[];
  nextBefore: number | null;
  moreWaiting: boolean;
}

/**
 * The fleet as the database has it: a snapshot by REST, kept up to date by changes.
 *
 * Of commands it holds those that are dispatched or running anywhere, and those of the selected agent, as far back as
 * they were asked for: memory does not grow with the fleet's history.
 */
export class Fleet {
  readonly agents = new SvelteMap<string, Agent>();
  readonly commands = new SvelteMap<string, Command>();
  me = $state<Me | null>(null);
  /** False until the first snapshot is there. */
  loaded = $state(false);
  /** Why the last reading failed; null when it did not. */
  problem = $state<ApiError | null>(null);
  selectedId = $state<string | null>(null);
  /** The commands shown are those of the selected agent, not still of the one before. */
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

  readonly agentsByName = $derived([...this.agents.values()].sort((a, b) => a.name.localeCompare(b.name)));
  readonly activeByAgent = $derived(
    new Map([...this.commands.values()].filter((c) => ACTIVE_STATES.has(c.state)).map((c) => [c.agent_id, c])),
  );
  readonly selected = $derived(this.selectedId === null ? null : (this.agents.get(this.selectedId) ?? null));
  readonly #ofSelected = $derived([...this.commands.values()].filter((c) => c.agent_id === this.selectedId));
  readonly active = $derived(this.#ofSelected.find((c) => ACTIVE_STATES.has(c.state)) ?? null);
  readonly waiting = $derived(this.#ofSelected.filter((c) => c.state === "queued").sort(byLine));
  readonly history = $derived(this.#ofSelected.filter((c) => FINAL_STATES.has(c.state)).sort(newestFirst));

  close(): void {
    clearTimeout(this.#retryTimer);
    this.#round += 1;
  }

  /** A change arrived by Realtime. */
  change(change: Change): void {
    this.#catchUp.change(change);
    for (const watcher of this.#watchers) watcher(change);
  }

  /** Hear of changes, and by null that any may have been missed; the answer ends it. */
  watch(watcher: (change: Change | null) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** A row arrived as the answer to a request of this page's own. */
  answered(row: Command): void {
    this.#catchUp.change({ table: "commands", id: row.id, row, whole: true });
  }

  /** As `answered`, for an agent's row. */
  answeredAgent(row: Agent): void {
    this.#catchUp.change({ table: "agents", id: row.id, row });
  }

  /** Read everything that is shown anew; true when it went well. One that fails is tried again later. */
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

  /** Read until it goes well: after a failure that may pass, again and again, later and later. */
  async readUntilDone(then: () => void): Promise<void> {
    const reading = this.read();
    const round = this.#round;
    if (await reading) then();
    else if (round === this.#round && this.problem?.isPassing) {
      this.#retryTimer = setTimeout(() => void this.readUntilDone(then), 500 + this.#backoff.next());
    }
  }

  /** Show this agent's commands. */
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

  /** One more page of the selected agent's history. Raises ApiError. */
  async readOlder(): Promise<void> {
    const agentId = this.selectedId;
    const before = this.#nextBefore;
    if (agentId === null || before === null || this.readingOlder) return;
    this.readingOlder = true;
    try {
      await this.#catchUp.read(
        () => this.api.commands({ agent_id: agentId, before, limit: PAGE }),
        (page) => {
          if (this.selectedId !== agentId) return;
          for (const row of page.commands) this.#put(row);
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
      this.api.me(),
      this.api.agents(),
      this.api.allCommands({ state: "dispatched" }),
      this.api.allCommands({ state: "running" }),
      agentId === null ? null : this.#readSelected(agentId),
    ]);
    // One that was dispatched in the first answer may run in the second: the later reading is the newer.
    return { me, agents, active: [...dispatched, ...running], selected };
  }

  async #readSelected(agentId: string): Promise<Selected> {
    const [newest, waiting] = await Promise.all([
      this.api.commands({ agent_id: agentId, limit: PAGE }),
      this.api.commands({ agent_id: agentId, state: "queued", limit: 200 }),
    ]);
    return {
      agentId,
      newest: newest.commands,
      waiting: waiting.commands,
      nextBefore: newest.next_before,
      moreWaiting: waiting.next_before !== null,
    };
  }

  #take(snapshot: Snapshot): void {
    this.me = snapshot.me;
    const named = new Set(snapshot.agents.map((agent) => agent.id));
    for (const id of this.agents.keys()) if (!named.has(id)) this.agents.delete(id);
    for (const agent of snapshot.agents) this.#putAgent(agent);

    const selected = snapshot.selected?.agentId === this.selectedId ? snapshot.selected : null;
    const shown = [...snapshot.active, ...(selected?.waiting ?? []), ...(selected?.newest ?? [])];
    const found = new Set(shown.map((command) => command.id));
    // What was not over and is in none of the answers has ended meanwhile: its end is further back than was read.
    for (const [id, command] of this.commands)
      if (!FINAL_STATES.has(command.state) && !found.has(id)) this.commands.delete(id);
    for (const command of snapshot.active) this.#put(command);
    if (selected !== null) this.#takeSelected(selected);
    this.loaded = true;
    if (selected === null && this.selectedId !== null) {
      const id = this.selectedId;
      this.selectedId = null;
      void this.select(id); // chosen while the snapshot was read
    }
  }

  #takeSelected(selected: Selected): void {
    if (selected.agentId !== this.selectedId) return;
    for (const command of [...selected.waiting, ...selected.newest]) this.#put(command);
    if (!this.selectedLoaded) {
      this.#nextBefore = selected.nextBefore;
      this.hasOlder = selected.nextBefore !== null;
    }
    this.moreWaiting = selected.moreWaiting;
    this.selectedLoaded = true;
  }

  #apply(change: Change): void {
    if (change.table === "agents") {
      if (change.row === null) this.agents.delete(change.id);
      else this.#putAgent(change.row);
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
      this.answered(await this.api.command(id));
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
  }
}
