/** Where in which stream the next byte belongs. */
export interface Place {
  streamId: string | null;
  offset: number;
}

interface Item {
  /** Terminal bytes as they came, or something to do between two of them. */
  content: Uint8Array | (() => void);
  /** The place after this item; null when it moves nothing. */
  after: Place | null;
}

export interface FlowLimits {
  /** Bytes given to the emulator and not yet drawn, above which nothing more is handed over… */
  high: number;
  /** …until there are only so many. */
  low: number;
  /** Bytes that may wait here. */
  bound: number;
}

const NOTHING = new Uint8Array();
const LIMITS: FlowLimits = { high: 512 * 1024, low: 128 * 1024, bound: 8 * 1024 * 1024 };

/**
 * Stands between a socket, which cannot be told to wait, and the emulator, which draws as fast as it can.
 *
 * Bytes are handed over in order, at most `high` of them undrawn at a time; the rest wait here, `bound` bytes at most.
 * When more come, what waits is dropped and `overflowed` is told: the caller leaves the stream and comes back to
 * `place`, the first byte that was not handed over, after `drained`.
 */
export class Flow {
  readonly #write: (data: Uint8Array, drawn: () => void) => void;
  readonly #overflowed: () => void;
  readonly #drained: () => void;
  readonly #limits: FlowLimits;
  #queue: Item[] = [];
  #waiting = 0;
  #undrawn = 0;
  /** An action waits for what is before it to be drawn. */
  #acting = false;
  #stopped = false;
  #generation = 0;
  #place: Place = { streamId: null, offset: 0 };

  constructor(
    write: (data: Uint8Array, drawn: () => void) => void,
    events: { overflowed: () => void; drained: () => void },
    limits: FlowLimits = LIMITS,
  ) {
    this.#write = write;
    this.#overflowed = events.overflowed;
    this.#drained = events.drained;
    this.#limits = limits;
  }

  /** The first byte that the emulator has not been given. */
  get place(): Place {
    return this.#place;
  }

  bytes(data: Uint8Array, after: Place): void {
    if (this.#stopped) return;
    this.#waiting += data.byteLength;
    this.#queue.push({ content: data, after });
    this.#handOver();
    if (this.#waiting > this.#limits.bound) this.#overflow();
  }

  /** Do this when all before it is drawn, and none of what follows is handed over; `after` when it moves the place. */
  then(action: () => void, after: Place | null = null): void {
    if (this.#stopped) return;
    this.#queue.push({ content: action, after });
    this.#handOver();
  }

  /** Take bytes again, after an overflow or for another stream. What waited is forgotten. */
  restart(): void {
    this.#queue = [];
    this.#waiting = 0;
    this.#stopped = false;
  }

  /** The emulator was cleared or is gone: what it still had to draw does not count any more. */
  abandon(): void {
    this.restart();
    this.#undrawn = 0;
    this.#acting = false;
    this.#generation += 1;
  }

  #handOver(): void {
    while (!this.#acting && this.#undrawn < this.#limits.high) {
      const item = this.#queue.shift();
      if (item === undefined) return;
      this.#place = item.after ?? this.#place;
      if (typeof item.content === "function") this.#act(item.content);
      else this.#give(item.content);
    }
  }

  #give(data: Uint8Array): void {
    const size = data.byteLength;
    this.#waiting -= size;
    this.#undrawn += size;
    this.#writeThen(data, () => (this.#undrawn -= size));
  }

  /** The emulator clears itself and changes its size at once, whatever it still has to draw: so only after that. */
  #act(action: () => void): void {
    this.#acting = true;
    this.#writeThen(NOTHING, () => {
      this.#acting = false;
      action();
    });
  }

  #writeThen(data: Uint8Array, then: () => void): void {
    const generation = this.#generation;
    this.#write(data, () => {
      if (generation !== this.#generation) return;
      then();
      if (this.#undrawn > this.#limits.low) return;
      if (this.#stopped) this.#drained();
      else this.#handOver();
    });
  }

  #overflow(): void {
    this.#queue = [];
    this.#waiting = 0;
    this.#stopped = true;
    this.#overflowed();
  }
}
