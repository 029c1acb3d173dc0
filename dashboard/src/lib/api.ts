import { randomId } from "./ids.ts";
import type {
  Agent,
  Agents,
  AlertAnswer,
  Alerts,
  ArchiveUsage,
  AuditChain,
  AuditPage,
  CancelRequest,
  ChangedSchedule,
  Command,
  CommandState,
  Commands,
  DeviceDecision,
  DeviceRequest,
  DeviceRequests,
  EditCommand,
  EnrolmentToken,
  Statistics,
  Group,
  HaltStatus,
  CommandLimits,
  AgentQueue,
  Me,
  TerminalModesAnswer,
  MoveCommand,
  NewCommand,
  NewEnrolmentToken,
  NewGroup,
  NewHalt,
  NewSchedule,
  OperatorAnswer,
  Operators,
  PresetAnswer,
  Presets,
  ProblemDetails,
  RecordedCommands,
  SavePreset,
  ScheduleAnswer,
  ScheduleRuns,
  Schedules,
  SearchHits,
  Streams,
  Tags,
  Timeline,
  NextTimes,
  PreviewedPreset,
  PreviewPreset,
  UnusedEnrolmentToken,
  UnusedEnrolmentTokens,
} from "./protocol.ts";

const TIMEOUT_MS = 20_000;

/** What went wrong with a request, in words for the person. `status` is 0 when no answer came. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
  }

  /** Whether the same request may go well later, without anyone's doing. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * Where tokens come from: `renewed` fetches another one when the server has refused the present one. Null when nobody
 * is signed in. Both raise ApiError when the sign-in service does not answer.
 */
export interface Tokens {
  current(): Promise<string | null>;
  renewed(): Promise<string | null>;
}

export interface CommandQuery {
  agent_id?: string | undefined;
  /** Several with commas between. */
  state?: CommandState | (string & {}) | undefined;
  group_id?: string | undefined;
  tag?: string | undefined;
  by?: string | undefined;
  q?: string | undefined;
  since?: string | undefined;
  limit?: number;
  before?: number;
}

export interface SearchQuery {
  q: string;
  kind: "output" | "commands";
  agent_id?: string | undefined;
  since?: string | undefined;
  cursor?: string | undefined;
  limit?: number;
}

/** The REST API. Each call raises ApiError. */
export class Api {
  readonly #tokens: Tokens;
  readonly #fetch: typeof fetch;
  /** How far the server's clock is ahead of this one, in ms; differences below 2 s cannot be told apart from delay. */
  clockAhead = 0;

  constructor(tokens: Tokens, fetcher: typeof fetch = (...args) => fetch(...args)) {
    this.#tokens = tokens;
    this.#fetch = fetcher;
  }

  me(): Promise<Me> {
    return this.#call("GET", "/v1/me");
  }

  agents(): Promise<Agents> {
    return this.#call("GET", "/v1/agents");
  }

  command(id: string): Promise<Command> {
    return this.#call("GET", `/v1/commands/${id}`);
  }

  /** Newest first; `next_before` of the answer asks for the next page. */
  commands(query: CommandQuery): Promise<Commands> {
    return this.#call("GET", `/v1/commands?${parameters(query)}`);
  }

  /** All pages of a query that has few answers. */
  async allCommands(query: CommandQuery): Promise<Command[]> {
    const found: Command[] = [];
    let before: number | null = null;
    do {
      const page: Commands = await this.commands({ ...query, limit: 200, ...(before === null ? {} : { before }) });
      found.push(...page.commands);
      before = page.next_before;
    } while (before !== null);
    return found;
  }

  send(agentId: string, command: NewCommand): Promise<Command> {
    return this.#make(`/v1/agents/${agentId}/commands`, command);
  }

  /** To several agents at once. */
  sendGroup(group: NewGroup): Promise<Group> {
    return this.#make("/v1/groups", group);
  }

  /** What no command of an agent may pass. */
  limit(agentId: string, limits: CommandLimits): Promise<Agent> {
    return this.#call("PUT", `/v1/agents/${agentId}/limits`, limits);
  }

  schedules(): Promise<Schedules> {
    return this.#call("GET", "/v1/schedules");
  }

  scheduleRuns(id: string): Promise<ScheduleRuns> {
    return this.#call("GET", `/v1/schedules/${id}/runs`);
  }

  /** When a cron expression comes next, or what is wrong with it. */
  times(cron: string, timeZone: string): Promise<NextTimes> {
    return this.#call("GET", `/v1/schedules/times?${parameters({ cron, time_zone: timeZone })}`);
  }

  createSchedule(schedule: NewSchedule): Promise<ScheduleAnswer> {
    return this.#make("/v1/schedules", schedule);
  }

  changeSchedule(id: string, schedule: ChangedSchedule): Promise<ScheduleAnswer> {
    return this.#call("PUT", `/v1/schedules/${id}`, schedule);
  }

  directSchedule(id: string, verb: "pause" | "resume" | "run"): Promise<ScheduleAnswer> {
    return this.#make(`/v1/schedules/${id}/${verb}`, {});
  }

  deleteSchedule(id: string): Promise<ScheduleAnswer> {
    return this.#call("DELETE", `/v1/schedules/${id}`);
  }

  presets(): Promise<Presets> {
    return this.#call("GET", "/v1/presets");
  }

  savePreset(name: string, preset: SavePreset): Promise<PresetAnswer> {
    return this.#call("PUT", `/v1/presets/${encodeURIComponent(name)}`, preset);
  }

  deletePreset(name: string): Promise<PresetAnswer> {
    return this.#call("DELETE", `/v1/presets/${encodeURIComponent(name)}`);
  }

  /** What a preset becomes with these values, or what is wrong with either. */
  tryPreset(body: PreviewPreset): Promise<PreviewedPreset> {
    return this.#call("POST", "/v1/presets/preview", body);
  }

  group(id: string): Promise<Group> {
    return this.#call("GET", `/v1/groups/${id}`);
  }

  cancelGroup(id: string, why: CancelRequest): Promise<Group> {
    return this.#call("POST", `/v1/groups/${id}/cancel`, why);
  }

  edit(commandId: string, change: EditCommand): Promise<Command> {
    return this.#call("PATCH", `/v1/commands/${commandId}`, change);
  }

  move(commandId: string, place: MoveCommand): Promise<Command> {
    return this.#call("POST", `/v1/commands/${commandId}/move`, place);
  }

  /** Where each waiting command of an agent stands. */
  line(agentId: string): Promise<AgentQueue> {
    return this.#call("GET", `/v1/agents/${agentId}/queue`);
  }

  label(agentId: string, labels: string[]): Promise<Agent> {
    return this.#call("PUT", `/v1/agents/${agentId}/labels`, { labels });
  }

  /** Tags in use, the most used first. */
  tags(): Promise<Tags> {
    return this.#call("GET", "/v1/tags");
  }

  cancel(commandId: string, why: CancelRequest = {}): Promise<Command> {
    return this.#call("POST", `/v1/commands/${commandId}/cancel`, why);
  }

  operators(): Promise<Operators> {
    return this.#call("GET", "/v1/operators");
  }

  /** Shut somebody out, or let them in again. */
  setEnabled(kind: "agents" | "operators", id: string, enabled: boolean): Promise<Agent | OperatorAnswer> {
    return this.#call("POST", `/v1/${kind}/${id}/${enabled ? "enable" : "disable"}`, {});
  }

  /** Direct an agent as a whole. */
  direct(
    agentId: string,
    verb: "pause" | "resume" | "cancel-all" | "restart" | "stop",
    why: CancelRequest = {},
  ): Promise<unknown> {
    return this.#call("POST", `/v1/agents/${agentId}/${verb}`, why);
  }

  /** The halt in force, and how far it has come. */
  halt(): Promise<HaltStatus> {
    return this.#call("GET", "/v1/halt");
  }

  beginHalt(body: NewHalt): Promise<HaltStatus> {
    return this.#call("POST", "/v1/halt", body);
  }

  liftHalt(): Promise<HaltStatus> {
    return this.#call("DELETE", "/v1/halt");
  }

  alerts(): Promise<Alerts> {
    return this.#call("GET", "/v1/alerts");
  }

  acknowledge(alertId: number): Promise<AlertAnswer> {
    return this.#call("POST", `/v1/alerts/${alertId}/acknowledge`, {});
  }

  /** What the instance that answers counts and holds. */
  figures(): Promise<Statistics> {
    return this.#call("GET", "/v1/figures");
  }

  /** Agents that wait to be let in. */
  deviceRequests(): Promise<DeviceRequests> {
    return this.#call("GET", "/v1/device/requests");
  }

  /** The one that waits under the code that a person has typed. */
  deviceRequest(code: string): Promise<DeviceRequest> {
    return this.#call("GET", `/v1/device/requests/${encodeURIComponent(code)}`);
  }

  decide(requestId: string, verb: "approve" | "refuse", body: DeviceDecision = {}): Promise<DeviceRequest> {
    return this.#call("POST", `/v1/device/requests/${requestId}/${verb}`, body);
  }

  /** A page of the audit log, newest first; the query is as the API has it. */
  audit(query: URLSearchParams): Promise<AuditPage> {
    return this.#call("GET", `/v1/audit?${query}`);
  }

  auditChain(): Promise<AuditChain> {
    return this.#call("GET", "/v1/audit/chain");
  }

  /** A file that the API makes, whole, however long it takes; `have` is told of the bytes that are here. */
  async download(path: string, have: (bytes: number) => void): Promise<Blob> {
    const { body } = await this.#answered("GET", path, undefined, null);
    if (body === null) return new Blob();
    let bytes = 0;
    const counted = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, onward) => {
        bytes += chunk.byteLength;
        have(bytes);
        onward.enqueue(chunk);
      },
    });
    try {
      return await new Response(body.pipeThrough(counted)).blob(); // which the browser may keep on disk
    } catch {
      throw new ApiError(0, "The server's answer was cut off.");
    }
  }

  /** An agent's recordings, newest first. */
  streams(agentId: string, before: string | null = null): Promise<Streams> {
    return this.#call("GET", `/v1/agents/${agentId}/streams?${parameters({ before: before ?? undefined })}`);
  }

  timeline(streamId: string, query: { start?: number | undefined; end?: number | undefined; parts: number }): Promise<Timeline> {
    return this.#call("GET", `/v1/streams/${streamId}/timeline?${parameters(query)}`);
  }

  /** The commands of a recording in the order of their output; `next_cursor` of the answer asks for the next page. */
  recordedCommands(
    streamId: string,
    query: { start?: number | undefined; end?: number | undefined; cursor?: string | undefined },
  ): Promise<RecordedCommands> {
    return this.#call("GET", `/v1/streams/${streamId}/commands?${parameters(query)}`);
  }

  modes(streamId: string, at: number): Promise<TerminalModesAnswer> {
    return this.#call("GET", `/v1/streams/${streamId}/modes?${parameters({ at })}`);
  }

  /** What the recordings of each agent take on disk. */
  usage(): Promise<ArchiveUsage> {
    return this.#call("GET", "/v1/usage");
  }

  search(query: SearchQuery): Promise<SearchHits> {
    return this.#call("GET", `/v1/search?${parameters(query)}`);
  }

  /** Bytes of a recording with their times. */
  pieces(streamId: string, query: { start?: number; end?: number; since?: string; until?: string }): Promise<Response> {
    return this.#answered("GET", `/v1/streams/${streamId}/pieces?${parameters(query)}`);
  }

  enrolmentTokens(): Promise<UnusedEnrolmentTokens> {
    return this.#call("GET", "/v1/enrolment-tokens");
  }

  withdrawToken(id: string): Promise<UnusedEnrolmentToken> {
    return this.#call("DELETE", `/v1/enrolment-tokens/${id}`);
  }

  enrolmentToken(body: NewEnrolmentToken = {}): Promise<EnrolmentToken> {
    return this.#call("POST", "/v1/enrolment-tokens", body);
  }

  /** Have something made: asked again when the answer is lost, under a key that lets it be made once. */
  async #make<T>(path: string, body: object): Promise<T> {
    const key = randomId();
    try {
      return await this.#call<T>("POST", path, body, key);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 0) throw error;
      return this.#call<T>("POST", path, body, key);
    }
  }

  async #call<T>(method: string, path: string, body?: object, key?: string): Promise<T> {
    const answer = await readJson<T>(await this.#answered(method, path, body, TIMEOUT_MS, key));
    if (answer === null) throw new ApiError(0, "The server's answer was cut off.");
    return answer;
  }

  async #answered(
    method: string,
    path: string,
    body?: object,
    timeout: number | null = TIMEOUT_MS,
    key?: string,
  ): Promise<Response> {
    let response = await this.#request(method, path, await this.#tokens.current(), body, timeout, key);
    if (response.status === 401) {
      const token = await this.#tokens.renewed();
      if (token !== null) response = await this.#request(method, path, token, body, timeout, key);
    }
    if (!response.ok) throw await refusal(response);
    this.#readClock(response);
    return response;
  }

  async #request(
    method: string,
    path: string,
    token: string | null,
    body: object | undefined,
    timeout: number | null,
    key: string | undefined,
  ): Promise<Response> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (token !== null) headers["Authorization"] = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key !== undefined) headers["Idempotency-Key"] = key;
    try {
      return await this.#fetch(path, {
        method,
        headers,
        cache: "no-store",
        ...(timeout === null ? {} : { signal: AbortSignal.timeout(timeout) }),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      const late = error instanceof DOMException && error.name === "TimeoutError";
      throw new ApiError(0, late ? "The server did not answer in time." : "The server cannot be reached.");
    }
  }

  #readClock(response: Response): void {
    const date = Date.parse(response.headers.get("date") ?? "");
    if (Number.isNaN(date)) return;
    const ahead = date + 500 - Date.now(); // the header has whole seconds: half a one is its middle
    this.clockAhead = Math.abs(ahead) < 2000 ? 0 : ahead;
  }
}

function parameters(query: object): URLSearchParams {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}

async function refusal(response: Response): Promise<ApiError> {
  const type = response.headers.get("content-type") ?? "";
  const problem = type.startsWith("application/problem+json") ? await readJson<ProblemDetails>(response) : null;
  const plain = `The server answered ${response.status} ${response.statusText}`.trim() + ".";
  return new ApiError(response.status, problem?.detail || problem?.title || plain);
}

/** The body; null when the connection ended within it, or something between here and the server wrote its own. */
async function readJson<T>(response: Response): Promise<T | null> {
  try {
    return (await response.json()) as T;
  } catch {
    return null;
  }
}
