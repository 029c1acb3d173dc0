/** The stream and the offset of the next byte. */
export interface Place {
  streamId: string | null;
  offset: number;
}

interface Item {
  /** Terminal bytes as they came, or an action between two bytes. */
  content: Uint8Array | (() => void);
  /** The place after this item; null if the item does not change it. */
  after: Place | null;
}

export interface FlowLimits {
  /** From this number of undrawn bytes in the emulator on, no more bytes are handed over. */
  high: number;
  /** From this number of undrawn bytes down, bytes are handed over again. */
  low: number;
  /** The largest number of bytes that may wait here. */
  bound: number;
}

const NOTHING = new Uint8Array();
const LIMITS: FlowLimits = { high: 512 * 1024, low: 128 * 1024, bound: 8 * 1024 * 1024 };

/**
 * Flow control between a socket, which cannot be paused, and the emulator, which needs time to draw.
 *
 * Bytes are handed over in order, at most `high` undrawn bytes at a time; the other bytes wait here, at most `bound`. When
 * more arrive, the waiting bytes are dropped and `overflowed` is called: the caller then leaves the stream. After
 * `drained` it returns to `place`, the first byte that was not handed over.
 */
export class Flow {
  readonly #write: (data: Uint8Array, drawn: () => void) => void;
  readonly #overflowed: () => void;
  readonly #drained: () => void;
  readonly #limits: FlowLimits;
  #queue: Item[] = [];
  #waiting = 0;
  #undrawn = 0;
  /** An action waits until all bytes before it are drawn. */
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

  /** The place of the first byte that was not handed over. */
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

  /** Runs `action` when all bytes before it are drawn, before later bytes are handed over; `after` is the place after it. */
  then(action: () => void, after: Place | null = null): void {
    if (this.#stopped) return;
    this.#queue.push({ content: action, after });
    this.#handOver();
  }

  /** Accepts bytes again, after an overflow or for another stream. Waiting bytes are dropped. */
  restart(): void {
    this.#queue = [];
    this.#waiting = 0;
    this.#stopped = false;
  }

  /** The emulator was cleared or closed: its undrawn bytes no longer count. */
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

  /** Runs an action after drawing: the emulator clears and resizes itself at once, even with undrawn bytes. */
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
