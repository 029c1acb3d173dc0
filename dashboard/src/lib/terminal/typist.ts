import { randomId } from "../ids.ts";
import type { Keys, KeysTaken } from "../protocol.ts";

/** The largest number of characters in one message. */
const MOST = 16_000;

/** A part of a text that has not been sent yet. `isRest`: it follows another part of the same paste. */
interface Part {
  text: string;
  isRest: boolean;
}

/**
 * The keyboard messages that the agent has not answered: they are sent again over the next connection.
 *
 * A long paste is sent part by part, each after the previous one was typed. When a part is rejected, the rest of the paste
 * is dropped, so that no text is missing in its middle. Keys that are typed meanwhile follow the paste.
 */
export class Typist {
  /** Identifies this page to the server and the agent. */
  readonly clientId = randomId();
  /** The number of the newest message. */
  #seq = 0;
  #unanswered: Keys[] = [];
  #held: Part[] = [];

  /** Messages that were sent without an answer yet, or wait for the next connection. */
  get unanswered(): readonly Keys[] {
    return this.#unanswered;
  }

  /** Types a text; returns the messages to send now. */
  type(text: string): Keys[] {
    this.#held.push(...split(text).map((text, index) => ({ text, isRest: index > 0 })));
    return this.#release();
  }

  /** Interrupts the command and drops the text that has not been sent; returns the message to send now. */
  interrupt(): Keys {
    this.#held = [];
    return this.#message("", true);
  }

  /** Takes in that a message was typed or rejected; returns the messages to send now. */
  answered({ seq, refused }: Pick<KeysTaken, "seq" | "refused">): Keys[] {
    this.#unanswered = this.#unanswered.filter((keys) => keys.seq !== seq);
    if (refused !== null && seq === this.#seq) while (this.#held[0]?.isRest) this.#held.shift();
    return this.#release();
  }

  /** Drops everything that was not answered: the person has left, and nothing is typed later. */
  forget(): void {
    this.#unanswered = [];
    this.#held = [];
  }

  #release(): Keys[] {
    const released: Keys[] = [];
    for (let part = this.#held[0]; part !== undefined; part = this.#held[0]) {
      if (part.isRest && this.#unanswered.at(-1)?.seq === this.#seq) break; // the part before it has no answer yet
      this.#held.shift();
      released.push(this.#message(part.text, false));
    }
    return released;
  }

  #message(text: string, interrupt: boolean): Keys {
    const keys: Keys = { type: "keys", client_id: this.clientId, seq: ++this.#seq, text, interrupt };
    this.#unanswered.push(keys);
    return keys;
  }
}

/** Splits a text into parts for one message each; no part ends within a character. */
function split(text: string): string[] {
  const parts: string[] = [];
  let rest = text;
  while (rest.length > MOST) {
    const last = rest.charCodeAt(MOST - 1);
    const end = last >= 0xd800 && last <= 0xdbff ? MOST - 1 : MOST;
    parts.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  if (rest !== "") parts.push(rest);
  return parts;
}
