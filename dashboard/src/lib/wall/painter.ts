/** Something that is drawn when it has changed. */
export interface Drawn {
  draw(): void;
}

/** How long drawing may take in one frame, in ms: the rest of 16 ms is the browser's. */
const BUDGET_MS = 5;
/** The least time between two drawings of one tile, in ms. */
const REST_MS = 80;

/** Draws the changed tiles of a wall, as many in each frame as there is time for, each in its turn. */
export class Painter {
  readonly #due = new Set<Drawn>();
  readonly #drawn = new WeakMap<Drawn, number>();
  #planned = false;
  readonly #now: () => number;
  readonly #request: (callback: () => void) => void;

  constructor(now: () => number = () => performance.now(), request: (callback: () => void) => void = requestAnimationFrame) {
    this.#now = now;
    this.#request = (callback) => request(callback);
  }

  changed(tile: Drawn): void {
    this.#due.add(tile);
    this.#plan();
  }

  /** Forgets a tile that has left the wall. */
  left(tile: Drawn): void {
    this.#due.delete(tile);
  }

  #plan(): void {
    if (this.#planned || this.#due.size === 0) return;
    this.#planned = true;
    this.#request(() => this.#draw());
  }

  #draw(): void {
    this.#planned = false;
    const began = this.#now();
    for (const tile of [...this.#due]) {
      const now = this.#now();
      if (now - began > BUDGET_MS) break;
      if (now - (this.#drawn.get(tile) ?? -REST_MS) < REST_MS) continue;
      this.#due.delete(tile);
      this.#drawn.set(tile, now);
      tile.draw();
    }
    this.#plan();
  }
}
