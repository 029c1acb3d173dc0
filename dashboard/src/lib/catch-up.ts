/**
 * Puts a snapshot and the changes around it in order. While a snapshot is being read, changes wait; they are applied
 * after it, since the snapshot may be older than any of them.
 */
export class CatchUp<Change> {
  readonly #apply: (change: Change) => void;
  #waiting: Change[] = [];
  #readings = 0;

  constructor(apply: (change: Change) => void) {
    this.#apply = apply;
  }

  /** A change has arrived. */
  change(change: Change): void {
    if (this.#readings > 0) this.#waiting.push(change);
    else this.#apply(change);
  }

  /**
   * Read a snapshot and take it in. Readings may overlap: changes wait for the last. When one fails, its changes are
   * applied all the same and the error goes to the caller.
   */
  async read<Snapshot>(read: () => Promise<Snapshot>, take: (snapshot: Snapshot) => void): Promise<void> {
    this.#readings += 1;
    try {
      take(await read());
    } finally {
      this.#readings -= 1;
      if (this.#readings === 0) this.#flush();
    }
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const change of waiting) this.#apply(change);
  }
}
