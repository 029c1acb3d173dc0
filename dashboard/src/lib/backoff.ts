/** Random delays between attempts, in ms, from 0 to a bound that doubles up to `cap`: many clients spread out in time. */
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

  /** Starts again with short delays, after a success. */
  reset(): void {
    this.#bound = this.#base;
  }
}
