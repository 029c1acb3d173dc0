import type { Tokens } from "../api.ts";
import { bytes as amount } from "../format.ts";
import type { Attached, Controlled, Gap, KeysTaken, StreamStarted, TerminalClient } from "../protocol.ts";
import { ByteTimes } from "./byte-times.ts";
import { withCtrl } from "./ctrl.ts";
import { Flow, type Place } from "./flow.ts";
import { TerminalSocket, type LinkStatus } from "./socket.ts";
import { Screen, type ScreenOptions, type Size } from "./terminal.ts";

export interface SessionOptions extends Omit<ScreenOptions, "onWidth"> {
  url: string;
  tokens: Tokens;
  onStatus: (status: LinkStatus) => void;
  onSize: (size: Size, fitting: Size | null) => void;
  onControl: (control: Control) => void;
  /** Keys were rejected, for this reason. */
  onRefused: (why: string) => void;
}

/** The smallest size that a window sets by itself. */
const FLOOR: Size = { columns: 80, rows: 24 };

/** Who controls the terminal, as this window sees it. */
export interface Control {
  controller: TerminalClient | null;
  waiting: TerminalClient[];
  mine: boolean;
  /** This window has asked for control. */
  asked: boolean;
}

const REFUSED: Record<NonNullable<KeysTaken["refused"]>, string> = {
  not_in_control: "Input rejected: another window controls the terminal.",
  offline: "Input rejected: the agent is offline.",
  restarted: "Input rejected: the agent was restarted.",
  nothing_runs: "Input rejected: no command is running.",
  no_terminal: "Input rejected: this command does not read the keyboard.",
  line_too_long: "Input rejected: the program reads line by line, and a line has more than 4,095 bytes.",
  too_much: "Input rejected: the program has not read the earlier input yet.",
};

const RESIZE_MS = 120;
const NOBODY: Controlled = { type: "controlled", controller: null, waiting: [] };

/**
 * One agent's terminal in one window: it passes bytes from the socket through the flow control to the screen.
 *
 * The screen has the size of the pseudo-terminal. The window that has control sets this size, but not below 80 × 24; any
 * other window changes it only by `fit`, while nobody has control.
 */
export class TerminalSession {
  readonly screen: Screen;
  readonly #socket: TerminalSocket;
  readonly #flow: Flow;
  readonly #options: SessionOptions;
  readonly #times = new ByteTimes();
  readonly #observer: ResizeObserver;
  #streamId: string | null = null;
  #mine = false;
  /** No pane shows the terminal: it is not connected. */
  #away = false;
  /** The person has chosen a size below the floor: it stays until this window gets control again. */
  #fitted = false;
  #resizeTimer: ReturnType<typeof setTimeout> | undefined;
  #ctrlUsed: (() => void) | null = null;

  readonly #host: HTMLElement;

  constructor(host: HTMLElement, options: SessionOptions) {
    this.#host = host;
    this.#options = options;
    this.screen = new Screen(host, { ...options, onWidth: () => this.#propose(0) });
    this.#flow = new Flow((data, drawn) => this.#write(data, drawn), {
      overflowed: () => this.#socket.pause(),
      drained: () => {
        this.#flow.restart();
        if (!this.#away) this.#socket.resume(this.#flow.place);
      },
    });
    this.#socket = new TerminalSocket({
      url: options.url,
      tokens: options.tokens,
      events: {
        status: options.onStatus,
        attached: (message) => {
          const after = { streamId: message.stream_id, offset: message.offset };
          this.#flow.then(() => this.#attached(message), after);
          this.#controlled(NOBODY); // until the server reports who has control: this may be another server
        },
        bytes: (data, after) => this.#flow.bytes(data, after),
        gap: (message, after) => this.#flow.then(() => this.#gap(message), after),
        started: (message) => {
          const after = { streamId: message.stream_id, offset: message.offset };
          this.#flow.then(() => this.#begin(message), after);
        },
        resized: (message) => this.#flow.then(() => this.#resize(message)),
        // After the earlier bytes, which may be of another stream.
        times: (message) => this.#flow.then(() => this.#times.add(message)),
        controlled: (message) => this.#controlled(message),
        taken: (message) => {
          if (message.refused !== null) options.onRefused(REFUSED[message.refused]);
        },
      },
    });
    this.#observer = new ResizeObserver(() => this.#propose(RESIZE_MS));
    this.#listen();
  }

  #listen(): void {
    this.#observer.observe(this.#host);
    addEventListener("focus", this.#focused);
    addEventListener("online", this.retry);
  }

  #deafen(): void {
    clearTimeout(this.#resizeTimer);
    removeEventListener("focus", this.#focused);
    removeEventListener("online", this.retry);
    this.#observer.disconnect();
  }

  /** Leaves the stream and gives up control, until `enter`; the emulator keeps its lines. */
  leave(): void {
    this.#away = true;
    this.#deafen();
    this.#ctrlUsed = null;
    if (this.#mine) this.release();
    this.#socket.typist.forget();
    this.#socket.pause();
    this.#flow.restart();
    this.#controlled(NOBODY);
  }

  /** Goes on with the stream, at the first byte that the emulator lacks. */
  enter(): void {
    this.#away = false;
    this.#listen();
    this.#socket.resume(this.#flow.place);
    this.#socket.retry(); // where it was stopped
    this.screen.entered();
  }

  /** The place of the next byte for the screen. */
  get place(): Place {
    return this.#flow.place;
  }

  readonly retry = (): void => this.#socket.retry();

  /** Asks for control; `fromAnother` takes control away from another window. */
  take(fromAnother: boolean): void {
    this.#socket.control({ type: "take_control", client_id: this.#socket.typist.clientId, from_another: fromAnother });
  }

  grant(to: string): void {
    this.#socket.control({ type: "grant_control", to });
  }

  release(): void {
    this.#socket.control({ type: "release_control" });
  }

  /** Types a text into the terminal. */
  type(text: string): void {
    const held = this.#ctrlUsed;
    if (held !== null && text.length === 1) {
      this.#ctrlUsed = null;
      held();
      this.#socket.type(withCtrl(text));
    } else this.#socket.type(text);
  }

  /** Holds Ctrl for the next key, which a phone's keyboard lacks; then `used` is called. Null lets go of it. */
  holdCtrl(used: (() => void) | null): void {
    this.#ctrlUsed = used;
  }

  /** Interrupts the running command by Ctrl-C, or in the way of its CLI. */
  interrupt(): void {
    this.#socket.interrupt();
  }

  /** Pastes a text into the program and presses Enter. */
  submit(text: string): void {
    this.screen.paste(text, "\r");
  }

  /** Gives the pseudo-terminal the size that fills this window. */
  fit(): void {
    const fitting = this.screen.fitting;
    if (fitting === null) return;
    this.#fitted = true;
    this.#socket.resize(fitting.columns, fitting.rows);
  }

  token(accessToken: string): void {
    this.#socket.token(accessToken);
  }

  setFontSize(pixels: number): void {
    this.screen.fontSize = pixels;
    this.#propose(RESIZE_MS);
  }

  /** Shows the time of each line beside the terminal, or hides the times. */
  showTimes(on: boolean): void {
    this.screen.showsTimes = on;
    this.#propose(0);
  }

  close(): void {
    this.#deafen();
    this.#socket.close();
    this.#flow.abandon();
    this.screen.dispose();
  }

  readonly #focused = (): void => this.#propose(0);

  /** Writes the bytes, which end at the flow's place, to the screen: cut where bytes of another second begin. */
  #write(data: Uint8Array, drawn: () => void): void {
    const end = this.#flow.place.offset;
    for (const { offset, second, about } of data.byteLength > 0 ? this.#times.take(end) : []) {
      const before = data.byteLength - (end - offset);
      if (before > 0) {
        this.screen.write(data.subarray(0, before), () => undefined);
        data = data.subarray(before);
      }
      this.screen.stamp(second, about);
    }
    this.screen.write(data, drawn);
  }

  #attached(message: Attached): void {
    this.#times.clear(); // the times of the bytes that follow come again
    if (message.mode === "tail" || message.stream_id !== this.#streamId) {
      this.#begin(message);
      return;
    }
    if (message.mode === "gap") {
      this.screen.cut("output is missing here: the server no longer had it when this window reconnected", message.modes ?? "");
    }
    this.#resize(message);
    this.#propose(0);
  }

  #begin(stream: Attached | StreamStarted): void {
    this.#streamId = stream.stream_id;
    this.#times.clear();
    this.screen.clear();
    this.#resize(stream);
    if (stream.offset > 0) this.screen.mark("earlier output is no longer in the server's memory");
    if (stream.type === "attached") this.screen.setModes(stream.modes ?? "");
    this.#propose(0);
  }

  #controlled(message: Controlled): void {
    const { clientId } = this.#socket.typist;
    const mine = message.controller?.client_id === clientId;
    const waiting = message.waiting ?? [];
    if (mine && !this.#mine) this.#fitted = false;
    this.#mine = mine;
    this.screen.typed = mine ? (text) => this.type(text) : null;
    this.#options.onControl({
      controller: message.controller,
      waiting,
      mine,
      asked: waiting.some((writer) => writer.client_id === clientId),
    });
    if (mine) this.#propose(0);
  }

  #gap({ missing, modes }: Gap): void {
    this.screen.cut(`${amount(missing)} of output are missing here: this window was too slow to receive them`, modes ?? "");
  }

  #resize(size: Size): void {
    this.screen.resize(size);
    this.#options.onSize(this.screen.size, this.screen.fitting);
  }

  #propose(delay: number): void {
    clearTimeout(this.#resizeTimer);
    this.#resizeTimer = setTimeout(() => {
      this.screen.shrink();
      const fitting = this.screen.fitting;
      const size = this.screen.size;
      this.#options.onSize(size, fitting);
      if (fitting === null || !this.#mine || this.#fitted || document.visibilityState !== "visible") return;
      const columns = Math.max(fitting.columns, FLOOR.columns);
      const rows = Math.max(fitting.rows, FLOOR.rows);
      if (columns !== size.columns || rows !== size.rows) this.#socket.resize(columns, rows);
    }, delay);
  }
}
