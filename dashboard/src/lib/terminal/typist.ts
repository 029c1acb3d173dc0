import type { Keys } from "../protocol.ts";

/** The server takes so many characters in one message. */
const MOST = 16_000;

/** What this page has typed and the agent has not answered: it comes again over the next connection. */
export class Typist {
  /** This page, to the server and the agent. */
  readonly clientId = randomId();
  #seq = 0;
  #unanswered: Keys[] = [];

  get unanswered(): readonly Keys[] {
    return this.#unanswered;
  }

  /** The messages that say it; a long paste is several. */
  type(text: string, interrupt = false): Keys[] {
    const parts = interrupt ? [""] : split(text);
    const messages = parts.map((part): Keys => ({
      type: "keys",
      client_id: this.clientId,
      seq: ++this.#seq,
      text: part,
      interrupt,
    }));
    this.#unanswered.push(...messages);
    return messages;
  }

  answered(seq: number): void {
    this.#unanswered = this.#unanswered.filter((keys) => keys.seq > seq);
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

/** `crypto.randomUUID` is there on secure pages only. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
