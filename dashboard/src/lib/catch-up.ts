/**
 * Applies a snapshot and the changes around it in order. Changes that arrive while a snapshot is read wait and are applied
 * after it, because the snapshot may be older than they are.
 */
export class CatchUp<Change> {
  readonly #apply: (change: Change) => void;
  #waiting: Change[] = [];
  #readings = 0;

  constructor(apply: (change: Change) => void) {
    this.#apply = apply;
  }

  /** Applies a change, or holds it back while a snapshot is read. */
  change(change: Change): void {
    if (this.#readings > 0) this.#waiting.push(change);
    else this.#apply(change);
  }

  /**
   * Reads a snapshot and calls `take` with it. Readings may overlap: changes wait for the last one. When a reading fails,
   * the changes are applied all the same and the error is raised.
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
