import { type Api, ApiError, type Tokens } from "../api.ts";
import { parsePieces } from "../player/recording.ts";
import { TerminalSocket } from "../terminal/socket.ts";
import { terminalUrl } from "../terminal/url.ts";
import { LineReader } from "./line-reader.ts";

/** A line that an agent's program printed. */
export interface Line {
  /** Grows with each line: the key of a row. */
  id: number;
  /** When the line was complete (Unix time in ms). */
  at: number;
  agentId: string;
  text: string;
}

/** How many lines are kept. */
export const MOST_LINES = 5000;
/** How much of each recording is read before what is live. */
const BEFORE_BYTES = 32 * 1024;

/** The lines of several agents, in the order of their times: the end of each recording, and then what is live. */
export class MergedStream {
  lines = $state.raw<readonly Line[]>([]);
  readonly #api: Api;
  readonly #tokens: Tokens;
  readonly #sources = new Map<string, Source>();
  #waiting: Line[] = [];
  #planned = false;
  #next = 0;

  constructor(api: Api, tokens: Tokens) {
    this.#api = api;
    this.#tokens = tokens;
  }

  /** Reads these agents, and no others; the lines of the others stay. */
  follow(agentIds: readonly string[]): void {
    const wanted = new Set(agentIds);
    for (const [id, source] of this.#sources) {
      if (wanted.has(id)) continue;
      source.close();
      this.#sources.delete(id);
    }
    for (const id of wanted) {
      if (this.#sources.has(id)) continue;
      const add = (at: number, texts: readonly string[]): void => this.#add(id, at, texts);
      this.#sources.set(id, new Source(this.#api, this.#tokens, id, add));
    }
  }

  token(accessToken: string): void {
    for (const source of this.#sources.values()) source.token(accessToken);
  }

  clear(): void {
    this.#waiting = [];
    this.lines = [];
  }

  close(): void {
    this.follow([]);
  }

  #add(agentId: string, at: number, texts: readonly string[]): void {
    for (const text of texts) this.#waiting.push({ id: this.#next++, at, agentId, text });
    if (this.#planned || this.#waiting.length === 0) return;
    this.#planned = true;
    requestAnimationFrame(() => {
      this.#planned = false;
      this.lines = merged(this.lines, this.#waiting);
      this.#waiting = [];
    });
  }
}

/** The newest lines of both, by time; of one time, as they came. `lines` is in order. */
export function merged(lines: readonly Line[], added: readonly Line[]): Line[] {
  const all = [...lines, ...added];
  const last = lines.at(-1);
  const ordered = added.every((line, index) => line.at >= (added[index - 1] ?? last ?? line).at);
  if (!ordered) all.sort((a, b) => a.at - b.at || a.id - b.id);
  return all.slice(-MOST_LINES);
}

/** One agent's lines: those at the end of its recording, then live. */
class Source {
  readonly #api: Api;
  readonly #agentId: string;
  readonly #tokens: Tokens;
  readonly #add: (at: number, texts: readonly string[]) => void;
  #reader = new LineReader();
  #streamId: string | null = null;
  #socket: TerminalSocket | null = null;
  #closed = false;

  constructor(api: Api, tokens: Tokens, agentId: string, add: (at: number, texts: readonly string[]) => void) {
    this.#api = api;
    this.#tokens = tokens;
    this.#agentId = agentId;
    this.#add = add;
    void this.#open();
  }

  token(accessToken: string): void {
    this.#socket?.token(accessToken);
  }

  close(): void {
    this.#closed = true;
    this.#socket?.close();
  }

  async #open(): Promise<void> {
    let place: { streamId: string; offset: number } | null = null;
    try {
      place = await this.#readRecorded();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Nothing is recorded, or the server is away: what is live comes all the same.
    }
    if (this.#closed) return;
    this.#streamId = place?.streamId ?? null;
    this.#socket = new TerminalSocket({
      url: terminalUrl(this.#agentId),
      tokens: this.#tokens,
      ...(place === null ? {} : { place }),
      events: {
        status: () => undefined,
        attached: ({ stream_id: streamId, mode }) => {
          if (streamId !== this.#streamId || mode !== "exact") this.#reader = new LineReader();
          this.#streamId = streamId;
        },
        bytes: (data) => this.#add(Date.now() + this.#api.clockAhead, this.#reader.read(data)),
        gap: () => (this.#reader = new LineReader()),
        started: ({ stream_id: streamId }) => {
          this.#streamId = streamId;
          this.#reader = new LineReader();
        },
        resized: () => undefined,
        times: () => undefined,
        controlled: () => undefined,
        taken: () => undefined,
      },
    });
  }

  /** Reads the end of the newest recording; returns the place after it, null if there is none. Raises ApiError. */
  async #readRecorded(): Promise<{ streamId: string; offset: number } | null> {
    const params = { path: { agent_id: this.#agentId }, query: { limit: 1 } };
    const [stream] = (await this.#api.get("/v1/agents/{agent_id}/streams", { params })).streams;
    if (stream === undefined) return null;
    const { id: streamId, start, end: offset } = stream;
    if (offset > start) {
      const from = Math.max(start, offset - BEFORE_BYTES);
      const body = await (await this.#api.pieces(streamId, { start: from, end: offset })).arrayBuffer();
      let cut = from > start; // the first line may have begun before
      for (const { at, data } of parsePieces(body, from)) {
        const texts = this.#reader.read(data);
        this.#add(at, cut ? texts.slice(1) : texts);
        if (texts.length > 0) cut = false;
      }
    }
    return { streamId, offset };
  }
}
