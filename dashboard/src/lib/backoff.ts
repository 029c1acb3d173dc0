/** Delays in ms: each is drawn evenly from 0 to a bound that doubles up to `cap`, so that many clients spread out. */
export class Backoff {
  readonly #base: number;
  readonly #cap: number;
  readonly #random: () => number;
  #bound: number;

  constructor(base = 500, cap = 15_000, random: () => number = Math.random) {
    this.#base = this.#bound = base;
    this.#cap = cap;
    this.#random = random;
  }

  next(): number {
    const delay = this.#random() * this.#bound;
    this.#bound = Math.min(this.#bound * 2, this.#cap);
    return delay;
  }

  /** It worked. */
  reset(): void {
    this.#bound = this.#base;
  }
}
