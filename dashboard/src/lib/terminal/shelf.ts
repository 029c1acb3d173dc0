import type { Tokens } from "../api.ts";
import { TerminalSession, type SessionOptions } from "./session.ts";

/** How many terminals are kept besides the shown one. */
const KEPT = 8;

/** What a pane hears of its terminal. */
export type Heard = Pick<
  SessionOptions,
  "onStatus" | "onSize" | "onControl" | "onRefused" | "onMatches" | "onScrolledUp" | "onCopied" | "onLines" | "onLeave"
>;

interface Kept {
  /** The element in which the emulator draws: it moves from pane to pane. */
  readonly element: HTMLElement;
  readonly session: TerminalSession;
  heard: Heard;
}

/** By the tokens of their sign-in: the terminals of an operator are gone with the sign-in. */
const shelves = new WeakMap<Tokens, Map<string, Kept>>();

/**
 * Shows an agent's terminal in `host`: the one that was shown there before, with its last screen and scrollback at once,
 * or a new one. Returns its session, and what leaves it.
 *
 * The emulators of the agents that were shown last are kept, without a connection: shown again, they go on at the byte
 * that they had reached.
 */
export function showTerminal(
  host: HTMLElement,
  options: Omit<SessionOptions, keyof Heard>,
  heard: Heard,
): { session: TerminalSession; leave: () => void } {
  const shelf = shelves.get(options.tokens) ?? new Map<string, Kept>();
  shelves.set(options.tokens, shelf);
  const found = shelf.get(options.url);
  shelf.delete(options.url);
  for (const [oldest, { session }] of shelf) {
    if (shelf.size <= KEPT) break;
    shelf.delete(oldest);
    session.close();
  }
  if (found === undefined) {
    const made = begin(host, options, heard);
    return { session: made.session, leave: () => leave(shelf, options.url, made) };
  }
  found.heard = heard;
  host.append(found.element);
  found.session.enter();
  return { session: found.session, leave: () => leave(shelf, options.url, found) };
}

function begin(host: HTMLElement, options: Omit<SessionOptions, keyof Heard>, heard: Heard): Kept {
  const element = document.createElement("div");
  element.className = "emulator";
  host.append(element);
  const kept: { heard: Heard } = { heard };
  const session = new TerminalSession(element, {
    ...options,
    onStatus: (status) => kept.heard.onStatus(status),
    onSize: (size, fitting) => kept.heard.onSize(size, fitting),
    onControl: (control) => kept.heard.onControl(control),
    onRefused: (why) => kept.heard.onRefused(why),
    onMatches: (matches) => kept.heard.onMatches(matches),
    onScrolledUp: (up) => kept.heard.onScrolledUp(up),
    onCopied: (characters) => kept.heard.onCopied(characters),
    onLines: (text, lines, paste) => kept.heard.onLines(text, lines, paste),
    onLeave: () => kept.heard.onLeave(),
  });
  return Object.assign(kept, { element, session });
}

const NOTHING = (): void => undefined;
const DEAF: Heard = {
  onStatus: NOTHING,
  onSize: NOTHING,
  onControl: NOTHING,
  onRefused: NOTHING,
  onMatches: NOTHING,
  onScrolledUp: NOTHING,
  onCopied: NOTHING,
  onLines: NOTHING,
  onLeave: NOTHING,
};

function leave(shelf: Map<string, Kept>, url: string, kept: Kept): void {
  kept.heard = DEAF;
  kept.session.leave();
  kept.element.remove();
  shelf.set(url, kept);
}
