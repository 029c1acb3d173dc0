import { randomId } from "../ids.ts";
import type { Keys, KeysTaken } from "../protocol.ts";

/** The server takes so many characters in one message. */
const MOST = 16_000;

/** A part that has not been sent yet; the rest of a paste goes only when what is before it is typed. */
interface Part {
  text: string;
  isRest: boolean;
}

/**
 * What this page has typed and the agent has not answered: it comes again over the next connection.
 *
 * A long paste goes part by part, each when the one before it was typed; where one is refused the paste ends, so that
 * nothing is missing in its middle. What is typed meanwhile comes after it.
 */
export class Typist {
  /** This page, to the server and the agent. */
  readonly clientId = randomId();
  /** Of the newest message. */
  #seq = 0;
  #unanswered: Keys[] = [];
  #held: Part[] = [];

  /** What was sent, or is to be at the next connection. */
  get unanswered(): readonly Keys[] {
    return this.#unanswered;
  }

  /** Type this; the messages to be sent now. */
  type(text: string): Keys[] {
    this.#held.push(...split(text).map((text, index) => ({ text, isRest: index > 0 })));
    return this.#release();
  }

  /** Interrupt the command: what it was to be typed is forgotten. The message to be sent now. */
  interrupt(): Keys {
    this.#held = [];
    return this.#message("", true);
  }

  /** These were typed, or refused; the messages to be sent now. */
  answered({ seq, refused }: Pick<KeysTaken, "seq" | "refused">): Keys[] {
    this.#unanswered = this.#unanswered.filter((keys) => keys.seq !== seq);
    if (refused !== null && seq === this.#seq) while (this.#held[0]?.isRest) this.#held.shift();
    return this.#release();
  }

  #release(): Keys[] {
    const released: Keys[] = [];
    for (let part = this.#held[0]; part !== undefined; part = this.#held[0]) {
      if (part.isRest && this.#unanswered.at(-1)?.seq === this.#seq) break; // what came before it, not answered yet
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

/** In parts that the server takes, none of which ends within a character. */
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
