import type { RecordedCommand, TerminalSize } from "../rest.ts";
import type { Piece } from "./recording.ts";

/** The recording that a player reads. */
export interface Source {
  from(start: number, end: number): Promise<Piece[]>;
  offsetAt(ms: number): Promise<number>;
  /** Bytes that set the terminal modes in force before the byte at an offset, for a cleared emulator. */
  modesAt(offset: number): Promise<string>;
}

/** The emulator that a player draws on. */
export interface Stage {
  /** The bytes that are written from here on were received in this second (Unix time). */
  stamp(second: number): void;
  write(data: Uint8Array, drawn: () => void): void;
  clear(): void;
  resize(size: { columns: number; rows: number }): void;
  setModes(modes: string): void;
}

export interface Bounds {
  /** Offsets, the second one exclusive. */
  start: number;
  end: number;
  /** Times in ms. */
  began: number;
  ended: number;
}

export const SPEEDS = [0.5, 1, 2, 4, 8, 16];
/** How many bytes before the place of a seek are drawn again, so that the screen is as it was at that time. */
const LEAD_BYTES = 1024 * 1024;
/** How many bytes the emulator gets at once. */
const FRAME_BYTES = 256 * 1024;
const AHEAD_BYTES = 256 * 1024;
/** With `skipIdle`, a pause that would last longer for the viewer is skipped except for its end, in ms. */
const IDLE_MS = 1500;
const LEFT_OF_IDLE_MS = 300;

/**
 * Plays a part of a recording on an emulator: bytes in order, none before its time.
 *
 * Memory stays bounded: bytes are fetched in windows, a little ahead. A seek clears the emulator and draws the bytes
 * shortly before the new place again; a short seek forward draws on without clearing.
 */
export class Player {
  playing = $state(false);
  speed = $state(1);
  skipIdle = $state(true);
  /** The present place: a time (Unix time in ms), and the offset of the next byte. */
  time = $state(0);
  offset = $state(0);
  /** Whether the player waits for bytes or for the emulator. */
  busy = $state(false);
  /** The error of the last fetch; "" if it succeeded. */
  problem = $state("");
  readonly bounds: Bounds;
  readonly #source: Source;
  readonly #stage: Stage;
  readonly #sizes: TerminalSize[];
  #queue: Piece[] = [];
  #queued = 0;
  #fetched: number;
  #filling: Promise<void> | null = null;
  #undrawn = 0;
  #awaiting: (() => void)[] = [];
  #seeking = 0;
  /** Grows with each seek: work for an older seek stops. */
  #generation = 0;

  constructor(bounds: Bounds, sizes: TerminalSize[], source: Source, stage: Stage) {
    this.bounds = bounds;
    this.#sizes = [...sizes].sort((one, other) => one.start - other.start);
    this.#source = source;
    this.#stage = stage;
    this.time = bounds.began;
    this.offset = this.#fetched = bounds.start;
    this.#fit(bounds.start);
  }

  get atEnd(): boolean {
    return this.offset >= this.bounds.end;
  }

  toggle(): void {
    if (this.playing) {
      this.playing = false;
      return;
    }
    if (this.atEnd) void this.seek({ offset: this.bounds.start });
    this.playing = true;
  }

  faster(by: number): void {
    const index = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[Math.min(Math.max(index, 0), SPEEDS.length - 1)] ?? 1;
  }

  /** Plays on by this much of the viewer's time, in ms. */
  tick(elapsed: number): void {
    if (!this.playing || this.#seeking > 0) return;
    void this.#fill();
    const next = this.#queue[0];
    if (next === undefined) {
      if (this.atEnd) this.playing = false;
      this.busy = !this.atEnd;
      return;
    }
    if (this.#undrawn > FRAME_BYTES) return; // the emulator is behind: playing waits for it
    this.busy = false;
    let now = this.time + elapsed * this.speed;
    if (this.skipIdle && next.at - now > IDLE_MS * this.speed) now = next.at - LEFT_OF_IDLE_MS * this.speed;
    this.time = Math.max(this.time, Math.min(now, this.bounds.ended));
    let given = 0;
    while (given < FRAME_BYTES && this.#queue[0] !== undefined && this.#queue[0].at <= now) {
      const piece = this.#queue.shift() as Piece;
      given += piece.data.byteLength;
      this.#give(piece);
    }
    const waiting = this.#queue[0];
    if (waiting !== undefined && waiting.at < this.time) this.time = waiting.at; // more bytes are due than fit into one frame
  }

  /** Goes to an offset or a time, and draws the screen as it was then, from the bytes before it. */
  async seek(to: { offset: number } | { time: number }): Promise<void> {
    const generation = ++this.#generation;
    this.#seeking += 1;
    this.busy = true;
    this.problem = "";
    try {
      const wanted = "offset" in to ? to.offset : await this.#source.offsetAt(to.time);
      await this.#allDrawn(); // else bytes of the old place would be drawn after the clearing
      if (generation !== this.#generation) return;
      const target = Math.min(Math.max(wanted, this.bounds.start), this.bounds.end);
      if (target < this.offset || target - this.offset > LEAD_BYTES) {
        const first = Math.max(this.bounds.start, target - LEAD_BYTES);
        const modes = first > this.bounds.start ? await this.#source.modesAt(first) : "";
        if (generation !== this.#generation) return;
        this.#restart(first, modes);
      }
      await this.#drawUpTo(target, generation);
      if (generation !== this.#generation) return;
      const time = "time" in to ? to.time : (this.#queue[0]?.at ?? this.bounds.ended);
      this.time = Math.min(Math.max(time, this.bounds.began), this.bounds.ended);
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    } finally {
      this.#seeking -= 1;
      if (generation === this.#generation) this.busy = false;
    }
  }

  close(): void {
    this.#generation += 1;
    this.playing = false;
  }

  async #drawUpTo(target: number, generation: number): Promise<void> {
    while (this.offset < target) {
      const piece = this.#queue.shift();
      if (piece === undefined) {
        await this.#fill();
        if (generation !== this.#generation || (this.#queue.length === 0 && this.problem !== "")) return;
        if (this.#queue.length === 0 && this.#fetched >= this.bounds.end) return;
        continue;
      }
      const left = target - piece.start;
      if (piece.data.byteLength > left) {
        this.#queue.unshift({ at: piece.at, start: target, data: piece.data.subarray(left) });
      }
      this.#give({ ...piece, data: piece.data.subarray(0, left) });
      if (this.#undrawn > FRAME_BYTES) await this.#allDrawn();
      if (generation !== this.#generation) return;
    }
    await this.#allDrawn();
    if (this.#queue.length === 0) await this.#fill();
  }

  /** Waits until the emulator has drawn all of its bytes. */
  async #allDrawn(): Promise<void> {
    if (this.#undrawn > 0) await new Promise<void>((done) => this.#awaiting.push(done));
  }

  #restart(offset: number, modes: string): void {
    this.#queue = [];
    this.#queued = 0;
    this.offset = this.#fetched = offset;
    this.#stage.clear();
    this.#fit(offset);
    this.#stage.setModes(modes);
  }

  /** Gives the emulator the size that the terminal had at this offset. */
  #fit(offset: number): void {
    const size = this.#sizes.findLast((size) => size.start <= offset) ?? this.#sizes[0];
    if (size !== undefined) this.#stage.resize(size);
  }

  #give(piece: Piece): void {
    this.#queued -= piece.data.byteLength;
    let { start, data } = piece;
    const end = start + data.byteLength;
    this.#stage.stamp(Math.floor(piece.at / 1000));
    for (const size of this.#sizes) {
      if (size.start < start || size.start >= end) continue;
      const part = data.subarray(0, size.start - start);
      // The emulator resizes at once but draws later: the new size has to wait until the bytes before it are drawn.
      this.#stage.write(part, () => this.#stage.resize(size));
      data = data.subarray(part.byteLength);
      start = size.start;
    }
    this.offset = end;
    this.#undrawn += data.byteLength;
    this.#stage.write(data, () => {
      this.#undrawn -= data.byteLength;
      if (this.#undrawn > 0) return;
      for (const done of this.#awaiting.splice(0)) done();
    });
  }

  /** Fetches the next window when few bytes are left. */
  #fill(): Promise<void> {
    if (this.#queued > AHEAD_BYTES || this.#fetched >= this.bounds.end) return Promise.resolve();
    this.#filling ??= this.#fetch().finally(() => (this.#filling = null));
    return this.#filling;
  }

  async #fetch(): Promise<void> {
    const start = this.#fetched;
    try {
      const pieces = await this.#source.from(start, this.bounds.end);
      if (this.#fetched !== start) return; // a seek has moved the place meanwhile
      for (const piece of pieces) {
        const data = piece.data.subarray(0, Math.max(0, this.bounds.end - piece.start));
        if (data.byteLength === 0) continue;
        this.#queue.push({ ...piece, data });
        this.#queued += data.byteLength;
        this.#fetched = piece.start + data.byteLength;
      }
      if (this.#fetched === start) this.#fetched = this.offset = this.bounds.end; // retention has deleted the rest
      this.problem = "";
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
      this.playing = false;
    }
  }
}

/** The next (1) or previous (-1) command of an offset. */
export function neighbour(commands: RecordedCommand[], offset: number, by: 1 | -1): RecordedCommand | undefined {
  const others = commands.filter((command) => (by > 0 ? command.output_start > offset : command.output_start < offset));
  return by > 0 ? others[0] : others.at(-1);
}
