import createClient, { type Client, type FetchOptions } from "openapi-fetch";
import type { FilterKeys, HttpMethod, PathsWithMethod, SuccessResponse } from "openapi-typescript-helpers";

import { randomId } from "./ids.ts";
import type { Command, Commands, paths, ProblemDetails, StoredFile } from "./rest.ts";

const TIMEOUT_MS = 20_000;
const UPLOAD_TIMEOUT_MS = 120_000;
const READ_ONLY = "urn:onsembl:problem:read-only";
const CUT_OFF = "The server's answer was cut off.";

/** The error of a request, with a message for the person. `status` is 0 if no answer arrived. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * The source of access tokens: `renewed` fetches a new token after the server has rejected the present one. Both return
 * null if nobody is signed in, and raise ApiError if the sign-in service does not answer.
 */
export interface Tokens {
  current(): Promise<string | null>;
  renewed(): Promise<string | null>;
}

/** The query of a path's GET request. */
export type Query<Path extends PathsWithMethod<paths, "get">> = NonNullable<paths[Path]["get"]["parameters"]["query"]>;

/** Parameters and body of a request. */
type Input<Path extends keyof paths, Method extends HttpMethod> = Pick<
  FetchOptions<FilterKeys<paths[Path], Method>>,
  "params" | "body"
>;

/** Paths whose requests have no parameters and no body. */
type PathsWithoutInput<Method extends HttpMethod> = {
  [Path in keyof paths]: FilterKeys<paths[Path], Method> extends {
    parameters: { path?: never; query?: never };
    requestBody?: never;
  }
    ? Path
    : never;
}[keyof paths];

type Answer<Operation> = Operation extends { responses: infer Responses extends Record<number, unknown> }
  ? SuccessResponse<Responses, "application/json">
  : never;

interface Call<Method extends HttpMethod> {
  <Path extends PathsWithoutInput<Method>>(path: Path): Promise<Answer<FilterKeys<paths[Path], Method>>>;
  <Path extends PathsWithMethod<paths, Method>>(
    path: Path,
    input: Input<Path, Method>,
  ): Promise<Answer<FilterKeys<paths[Path], Method>>>;
}

interface Options {
  headers?: Record<string, string>;
  /** Null for a request that may take any time. */
  timeout?: number | null;
}

/**
 * The REST API. Paths, parameters, bodies and answers have the types of the server's OpenAPI document. Each call raises
 * ApiError.
 */
export class Api {
  readonly #tokens: Tokens;
  readonly #fetch: typeof fetch;
  readonly #client: Client<paths>;
  /** How far the server's clock is ahead of this one, in ms; 0 for less than 2 s, which may be delay. */
  clockAhead = 0;
  /** Called when the server rejects a change because its database is read-only, and when it has taken a change. */
  readOnlyChanged: (readOnly: boolean) => void = () => undefined;

  constructor(tokens: Tokens, fetcher: typeof fetch = (...args) => fetch(...args), server = location.origin) {
    this.#tokens = tokens;
    this.#fetch = fetcher;
    this.#client = createClient<paths>({ baseUrl: server, cache: "no-store", headers: { Accept: "application/json" } });
  }

  get = this.#caller("get");
  post = this.#caller("post");
  put = this.#caller("put");
  patch = this.#caller("patch");
  delete = this.#caller("delete");

  /** Posts a request that creates something. When the answer is lost, it is sent again with the same idempotency key. */
  create = (async (path: keyof paths, input?: object) => {
    const headers = { "Idempotency-Key": randomId() };
    try {
      return await this.#call("post", path, input, { headers });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 0) throw error;
      return this.#call("post", path, input, { headers });
    }
  }) as Call<"post">;

  /** Stores a file for a prompt. */
  upload(name: string, content: Blob, type: string): Promise<StoredFile> {
    const input = { params: { query: { name } }, body: content, bodySerializer: (body: unknown) => body };
    return this.#call("post", "/v1/attachments", input, { headers: { "Content-Type": type }, timeout: UPLOAD_TIMEOUT_MS });
  }

  /** Every page of a query with few answers. */
  async allCommands(query: Query<"/v1/commands">): Promise<{ commands: Command[]; lines: Record<string, string> }> {
    const found: Command[] = [];
    const lines: Record<string, string> = {};
    let before: number | null = null;
    do {
      const page: Commands = await this.get("/v1/commands", { params: { query: { ...query, limit: 200, before } } });
      found.push(...page.commands);
      Object.assign(lines, page.last_lines);
      before = page.next_before;
    } while (before !== null);
    return { commands: found, lines };
  }

  /** Bytes of a recording with their times. */
  pieces(streamId: string, query: Query<"/v1/streams/{stream_id}/pieces">): Promise<Response> {
    const params = { path: { stream_id: streamId }, query };
    return this.#open("get", "/v1/streams/{stream_id}/pieces", { params });
  }

  /** Downloads a whole file, however long it takes; calls `progress` with the number of bytes so far. */
  async download<Path extends PathsWithMethod<paths, "get">>(
    path: Path,
    input: Input<Path, "get">,
    progress: (bytes: number) => void,
  ): Promise<Blob> {
    const { body } = await this.#open("get", path, input, { timeout: null });
    if (body === null) return new Blob();
    let bytes = 0;
    const counted = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, onward) => {
        bytes += chunk.byteLength;
        progress(bytes);
        onward.enqueue(chunk);
      },
    });
    try {
      return await new Response(body.pipeThrough(counted)).blob(); // a blob, because the browser may keep it on disk
    } catch {
      throw new ApiError(0, CUT_OFF);
    }
  }

  #caller<Method extends HttpMethod>(method: Method): Call<Method> {
    return ((path: keyof paths, input?: object) => this.#call(method, path, input)) as Call<Method>;
  }

  async #call<T>(method: HttpMethod, path: keyof paths, input: object | undefined, options?: Options): Promise<T> {
    const answer = await readJson<T>(await this.#open(method, path, input, options));
    if (answer === null) throw new ApiError(0, CUT_OFF);
    return answer;
  }

  /** Sends a request; the body of the returned response is still unread. */
  async #open(
    method: HttpMethod,
    path: keyof paths,
    input: object | undefined,
    { headers = {}, timeout = TIMEOUT_MS }: Options = {},
  ): Promise<Response> {
    const send = (request: Request) => this.#send(request, timeout);
    // The types of `input` are checked by `Call`: here they are those of any path.
    const request = this.#client.request as (method: string, path: string, init: object) => Promise<{ response: Response }>;
    const { response } = await request(method, path, { ...input, headers, parseAs: "stream", fetch: send });
    return response;
  }

  /** Sends a request with the present token, and once more with a new token if the server rejects that one. */
  async #send(request: Request, timeout: number | null): Promise<Response> {
    let response = await this.#attempt(request, await this.#tokens.current(), timeout);
    if (response.status === 401) {
      const token = await this.#tokens.renewed();
      if (token !== null) response = await this.#attempt(request, token, timeout);
    }
    if (!response.ok) {
      const [error, type] = await problem(response);
      if (type === READ_ONLY) this.readOnlyChanged(true);
      throw error;
    }
    if (request.method !== "GET") this.readOnlyChanged(false);
    this.#readClock(response);
    return response;
  }

  async #attempt(request: Request, token: string | null, timeout: number | null): Promise<Response> {
    const attempt = request.clone();
    if (token !== null) attempt.headers.set("Authorization", `Bearer ${token}`);
    try {
      return await this.#fetch(attempt, timeout === null ? {} : { signal: AbortSignal.timeout(timeout) });
    } catch (error) {
      const late = error instanceof DOMException && error.name === "TimeoutError";
      throw new ApiError(0, late ? "The server did not answer in time." : "The server cannot be reached.");
    }
  }

  #readClock(response: Response): void {
    const date = Date.parse(response.headers.get("date") ?? "");
    if (Number.isNaN(date)) return;
    const ahead = date + 500 - Date.now(); // the header has whole seconds: half a second is their middle
    this.clockAhead = Math.abs(ahead) < 2000 ? 0 : ahead;
  }
}

/** The error of an answer, and the type of its problem. */
async function problem(response: Response): Promise<[ApiError, string | undefined]> {
  const type = response.headers.get("content-type") ?? "";
  const details = type.startsWith("application/problem+json") ? await readJson<ProblemDetails>(response) : null;
  const plain = `The server answered ${response.status} ${response.statusText}`.trim() + ".";
  return [new ApiError(response.status, details?.detail || details?.title || plain), details?.type];
}

/** The body; null if the connection ended within it, or a server between here and the API wrote its own body. */
async function readJson<T>(response: Response): Promise<T | null> {
  try {
    return (await response.json()) as T;
  } catch {
    return null;
  }
}
