import { createSubscriber } from "svelte/reactivity";

/** The time, for texts that say how long something takes: it moves once a second while anything shows it. */
class Clock {
  readonly #subscribe = createSubscriber((update) => {
    const timer = setInterval(update, 1000);
    return () => clearInterval(timer);
  });

  /** Unix time in ms. */
  get now(): number {
    this.#subscribe();
    return Date.now();
  }
}

export const clock = new Clock();
