import { createSubscriber } from "svelte/reactivity";

/** The current time for texts like "3 m ago": it updates once a second while a component shows it. */
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
