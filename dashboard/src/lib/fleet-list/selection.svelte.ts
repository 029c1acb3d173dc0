import { SvelteSet } from "svelte/reactivity";

/** The agents that are selected to be commanded, stopped or labelled together. */
export class Selection {
  readonly ids = new SvelteSet<string>();
  /** From where a range is selected. */
  #anchor: string | null = null;

  /** Selects an agent, or takes it out. */
  toggle(id: string): void {
    this.#anchor = id;
    if (!this.ids.delete(id)) this.ids.add(id);
  }

  /** Selects every agent of `shown` from the one that was selected last, else from `from`, to `id`. */
  extend(id: string, shown: readonly string[], from: string | null): void {
    const anchor = this.#anchor !== null && shown.includes(this.#anchor) ? this.#anchor : from;
    const [a, b] = [shown.indexOf(anchor ?? id), shown.indexOf(id)];
    this.#anchor = anchor ?? id;
    if (b < 0) return;
    for (const each of shown.slice(Math.min(a < 0 ? b : a, b), Math.max(a, b) + 1)) this.ids.add(each);
  }

  clear(): void {
    this.#anchor = null;
    this.ids.clear();
  }
}
