import type { Api } from "../api.ts";

/** Bytes that arrived together, and their Unix time in ms. */
export interface Piece {
  at: number;
  start: number;
  data: Uint8Array;
}

const HEAD_BYTES = 12;
const WINDOW_BYTES = 512 * 1024;
const KEPT_WINDOWS = 8;

/** Parses an answer: each piece follows its Unix time in ms (int64) and its length (uint32), both little-endian. */
export function parsePieces(body: ArrayBuffer, start: number): Piece[] {
  const view = new DataView(body);
  const pieces: Piece[] = [];
  let place = 0;
  while (place + HEAD_BYTES <= body.byteLength) {
    const length = view.getUint32(place + 8, true);
    const data = new Uint8Array(body, place + HEAD_BYTES, length);
    pieces.push({ at: Number(view.getBigInt64(place, true)), start, data });
    place += HEAD_BYTES + length;
    start += length;
  }
  return pieces;
}

/** A recording on the server, fetched in windows; the last few windows stay in memory. */
export class Recording {
  readonly #api: Api;
  readonly #streamId: string;
  readonly #windows = new Map<number, Promise<Piece[]>>();

  constructor(api: Api, streamId: string) {
    this.#api = api;
    this.#streamId = streamId;
  }

  /** The pieces from `start` to the end of its window, or to `end`. Raises ApiError. */
  async from(start: number, end: number): Promise<Piece[]> {
    const first = Math.floor(start / WINDOW_BYTES) * WINDOW_BYTES;
    const upto = Math.min(first + WINDOW_BYTES, end);
    let window = upto === first + WINDOW_BYTES ? this.#windows.get(first) : undefined;
    if (window === undefined) {
      window = this.#fetch(first, upto);
      this.#windows.set(first, window);
      window.catch(() => this.#windows.delete(first));
      for (const old of this.#windows.keys()) {
        if (this.#windows.size <= KEPT_WINDOWS) break;
        this.#windows.delete(old);
      }
    }
    const found: Piece[] = [];
    for (const piece of await window) {
      const skip = Math.max(0, start - piece.start);
      if (skip < piece.data.byteLength) {
        found.push(skip === 0 ? piece : { at: piece.at, start, data: piece.data.subarray(skip) });
      }
    }
    return found;
  }

  /** The offset of the first byte that arrived at this time or later. Raises ApiError. */
  async offsetAt(ms: number): Promise<number> {
    const at = new Date(ms).toISOString();
    const response = await this.#api.pieces(this.#streamId, { since: at, until: at });
    await response.arrayBuffer();
    return Number(response.headers.get("onsembl-start"));
  }

  /** The terminal modes in force before the byte at `offset`. Raises ApiError. */
  async modesAt(offset: number): Promise<string> {
    const params = { path: { stream_id: this.#streamId }, query: { at: offset } };
    return (await this.#api.get("/v1/streams/{stream_id}/modes", { params })).modes;
  }

  async #fetch(start: number, end: number): Promise<Piece[]> {
    const response = await this.#api.pieces(this.#streamId, { start, end });
    return parsePieces(await response.arrayBuffer(), Number(response.headers.get("onsembl-start")));
  }
}
