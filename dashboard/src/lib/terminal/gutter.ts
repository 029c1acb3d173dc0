import "./gutter.css";

import type { Terminal } from "@xterm/xterm";

import { clockTime, dayOf } from "../times.ts";
import type { LineTimes } from "./line-times.ts";

/** The widths of the column, in characters: for times, and for days and times. */
const NARROW = 8;
const WIDE = 15;

/**
 * The column on the left of a terminal with the time of each line, in the browser's time zone. Once
 * there is a line of another day, the first line of the window and each first line of a day have their day, too.
 *
 * While a full-screen program runs, the column is empty: it keeps its width, so that the program keeps its size.
 */
export class Gutter {
  readonly #terminal: Terminal;
  readonly #times: LineTimes;
  readonly #element = document.createElement("div");
  readonly #rendered: { dispose(): void };
  readonly #widened: () => void;
  #wide = false;

  /** `widened` is called when the column has become wider, because a line of another day came. */
  constructor(host: HTMLElement, terminal: Terminal, times: LineTimes, widened: () => void) {
    this.#terminal = terminal;
    this.#times = times;
    this.#widened = widened;
    this.#element.className = "times";
    this.#element.ariaHidden = "true";
    host.prepend(this.#element);
    this.#setWidth();
    this.#rendered = terminal.onRender(() => this.show());
    this.show();
  }

  dispose(): void {
    this.#rendered.dispose();
    this.#element.remove();
    this.#terminal.element?.style.removeProperty("padding-left");
  }

  /** Writes the times of the rows that the window shows. */
  show(): void {
    const terminal = this.#terminal;
    const screen = terminal.element?.querySelector<HTMLElement>(".xterm-screen");
    if (!screen) return;
    const { active } = terminal.buffer;
    const shows = active.type === "normal";
    const today = dayOf(Date.now() / 1000);
    const oldest = this.#times.oldest;
    if (!this.#wide && oldest !== null && dayOf(oldest) !== today) {
      this.#wide = true;
      this.#setWidth();
      this.#widened();
    }
    const height = screen.offsetHeight / terminal.rows;
    this.#element.style.lineHeight = `${height}px`;
    const end = shows ? this.#times.end : 0;
    let before = "";
    for (let row = 0; row < terminal.rows; row++) {
      const line = active.viewportY + row;
      const isShown = shows && line < end && (row === 0 || active.getLine(line)?.isWrapped !== true);
      const begins = isShown ? this.#beginning(line) : 0;
      const second = isShown ? this.#times.at(begins) : null;
      let text = "";
      if (second !== null) {
        const day = dayOf(second);
        text = this.#times.isAbout(begins) ? `~${clockTime(second).slice(0, -3)}` : clockTime(second);
        if (day !== before && this.#wide) text = `${day} ${text}`;
        before = day;
      }
      this.#write(row, text);
    }
    while (this.#element.childElementCount > terminal.rows) this.#element.lastChild?.remove();
  }

  #write(row: number, text: string): void {
    const shown = this.#element.children[row] ?? this.#element.appendChild(document.createElement("div"));
    if (shown.textContent !== text) shown.textContent = text;
  }

  /** The first row of a wrapped line. */
  #beginning(line: number): number {
    while (line > 0 && this.#terminal.buffer.active.getLine(line)?.isWrapped === true) line -= 1;
    return line;
  }

  #setWidth(): void {
    this.#element.style.width = `${this.#wide ? WIDE : NARROW}ch`;
    this.#terminal.element?.style.setProperty("padding-left", `${this.#element.offsetWidth}px`);
  }
}
