import "@xterm/xterm/css/xterm.css";

import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { WebglAddon } from "@xterm/addon-webgl";
import { Terminal } from "@xterm/xterm";

import { Gutter } from "./gutter.ts";
import { LineTimes } from "./line-times.ts";
import { harmless, lineCount } from "./paste.ts";
import { silence } from "./silence.ts";
import { DARK, LIGHT, MATCHES } from "./themes.ts";
import { todaysWidths } from "./widths.ts";

export interface Size {
  columns: number;
  rows: number;
}

export interface Matches {
  /** The index of the present match, from 0; -1 if there is none or its index is unknown. */
  index: number;
  count: number;
}

export interface SearchOptions {
  caseSensitive: boolean;
  regex: boolean;
}

export interface ScreenOptions {
  fontSize: number;
  dark: boolean;
  screenReader: boolean;
  onMatches: (matches: Matches) => void;
  /** The person has scrolled up from the newest line (true), or is back at it (false). */
  onScrolledUp: (up: boolean) => void;
  onCopied: (characters: number) => void;
  /** A paste of several lines, which a program without bracketed paste would run one by one: `paste` types it. */
  onLines: (text: string, lines: number, paste: () => void) => void;
  /** Ctrl-Shift-Esc was pressed while this window has control. */
  onLeave: () => void;
  /** The terminal has another width, because the column of times has. */
  onWidth: () => void;
}

const SCROLLBACK = 10_000;
/** The emulator takes so many bytes at once: between two pieces, the page answers the person. */
const PIECE = 4096;
const LEAST_FONT_SIZE = 8;
/** Resets the terminal's modes. Leaving the alternate screen restores the cursor in any case: so it is saved first. */
const USUAL_MODES =
  "\x1b7\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[?1l\x1b>\x1b[?9;1000;1002;1003;1004;1005;1006;1015;1016l\x1b[?2004l";
const FONT = 'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';

let fast: boolean | null = null;

/** Whether hardware draws WebGL. Where software emulates it, drawing in the document is four times as fast. */
function graphicsAreFast(): boolean {
  if (fast === null) {
    // Chromium accepts its own software renderer in spite of `failIfMajorPerformanceCaveat`: check its name as well.
    const context = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
    const names = context?.getExtension("WEBGL_debug_renderer_info");
    const drawer: unknown = names ? context?.getParameter(names.UNMASKED_RENDERER_WEBGL) : null;
    fast = context !== null && !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(String(drawer));
    context?.getExtension("WEBGL_lose_context")?.loseContext();
  }
  return fast;
}

/** The terminal emulator on the page: draws, searches and copies. It passes bytes on as they are, without decoding. */
export class Screen {
  readonly #host: HTMLElement;
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #search = new SearchAddon({ highlightLimit: 2000 });
  readonly #options: ScreenOptions;
  #dark: boolean;
  #gone = false;
  #typed: ((text: string) => void) | null = null;
  #fontSize: number;
  readonly #times: LineTimes;
  #gutter: Gutter | null = null;
  #stamped: number | null = null;
  #searchedHow = "";
  #follows = true;
  #scrolledTo = { top: 0, left: 0 };
  #scrolledUp = false;
  /** The window, and which sizes fill it in which font sizes. */
  #room = "";
  readonly #known = new Map<number, Size>();
  /** The renderer: WebGL where hardware draws it, else the document. */
  renderer: "webgl" | "dom" = "dom";

  constructor(host: HTMLElement, options: ScreenOptions) {
    this.#host = host;
    this.#options = options;
    this.#dark = options.dark;
    this.#fontSize = options.fontSize;
    this.#terminal = new Terminal({
      allowProposedApi: true, // the width of characters by Unicode's version is still a proposed interface
      disableStdin: true,
      cursorInactiveStyle: "outline",
      fontFamily: FONT,
      fontSize: options.fontSize,
      lineHeight: 1.15,
      scrollback: SCROLLBACK,
      screenReaderMode: options.screenReader,
      minimumContrastRatio: 4.5,
      theme: options.dark ? DARK : LIGHT,
    });
    silence(this.#terminal);
    this.#times = new LineTimes(this.#terminal);
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.loadAddon(this.#search);
    const widths = todaysWidths();
    this.#terminal.unicode.register(widths);
    this.#terminal.unicode.activeVersion = widths.version;
    this.#terminal.loadAddon(new WebLinksAddon());
    this.#terminal.open(host);
    this.#draw();
    this.#search.onDidChangeResults(({ resultIndex, resultCount }) =>
      options.onMatches({ index: resultIndex, count: resultCount }),
    );
    host.addEventListener("mouseup", this.#copySelection);
    this.#terminal.onData((data) => this.#typed?.(data));
    host.addEventListener("paste", this.#pasted, true);
    host.addEventListener("scroll", this.#scrolled);
    this.#terminal.onRender(() => {
      this.#followCursor();
      this.#noteScroll();
    });
    // Without control, the terminal only handles the keys to copy and to scroll; all others go to the page.
    this.#terminal.attachCustomKeyEventHandler((event) => {
      if (this.#typed !== null && event.ctrlKey && event.shiftKey && event.key === "Escape") {
        event.preventDefault();
        if (event.type === "keydown") options.onLeave();
        return false;
      }
      const copies = event.type === "keydown" && (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "c";
      if (copies) void this.copy();
      if (this.#typed !== null) return !(copies && (event.shiftKey || event.metaKey || this.#terminal.hasSelection()));
      return event.shiftKey && (event.key === "PageUp" || event.key === "PageDown");
    });
  }

  /** Receives the keys while this window has control; null while it has none. */
  set typed(typed: ((text: string) => void) | null) {
    this.#typed = typed;
    this.#terminal.options.disableStdin = typed === null;
    this.#terminal.options.cursorBlink = typed !== null && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#host.toggleAttribute("data-typing", typed !== null);
    if (typed !== null) this.#terminal.focus();
  }

  get size(): Size {
    return { columns: this.#terminal.cols, rows: this.#terminal.rows };
  }

  /** The size that fills the window in the person's font size; null while the window is not visible. */
  get fitting(): Size | null {
    const shrunk = this.#terminal.options.fontSize;
    const found = this.#fittingAt(this.#fontSize);
    this.#terminal.options.fontSize = shrunk ?? this.#fontSize;
    return found;
  }

  write(data: Uint8Array, drawn: () => void): void {
    const last = Math.max(0, Math.ceil(data.byteLength / PIECE) - 1) * PIECE;
    for (let start = 0; start < last; start += PIECE) this.#terminal.write(data.subarray(start, start + PIECE));
    this.#terminal.write(data.subarray(last), drawn);
  }

  /** The bytes that are written from here on were received in this second (Unix time; 0 if it is not known), or `about` in it. */
  stamp(second: number, about = false): void {
    if (second === this.#stamped) return;
    this.#stamped = second;
    this.#terminal.write("", () => this.#times.stamp(second, about));
  }

  /** Shows the time of each line beside it, or hides the times. The terminal's width changes. */
  set showsTimes(on: boolean) {
    if (on === (this.#gutter !== null)) return;
    this.#gutter?.dispose();
    this.#gutter = on ? new Gutter(this.#host, this.#terminal, this.#times, this.#options.onWidth) : null;
  }

  /** The second of the oldest line whose time is known; null if there is none. */
  get oldest(): number | null {
    return this.#times.oldest;
  }

  /** Scrolls to the first line of this second or after it; false if that line has left the scrollback. */
  scrollToTime(second: number): boolean {
    const { oldest } = this;
    if (oldest === null || second < oldest) return false;
    const line = this.#times.lineAt(second);
    if (line === null) this.#terminal.scrollToBottom();
    else this.#scrollTo(line);
    return true;
  }

  /** Scrolls until the line is the first one of the window: right after a change of size, xterm.js scrolls by the old one. */
  #scrollTo(line: number, frames = 3): void {
    const { active } = this.#terminal.buffer;
    this.#terminal.scrollToLine(line);
    requestAnimationFrame(() => {
      if (!this.#gone && frames > 0 && active.viewportY !== Math.min(line, active.baseY)) this.#scrollTo(line, frames - 1);
    });
  }

  /** Clears the screen, before another stream or its tail. */
  clear(): void {
    this.#times.clear();
    this.#stamped = null;
    this.#terminal.reset();
  }

  /** Takes the size of the pseudo-terminal. If it is larger than the window, the text shrinks until all of it fits. */
  resize(size: Size): void {
    if (size.columns !== this.#terminal.cols || size.rows !== this.#terminal.rows) {
      this.#times.settle();
      this.#terminal.resize(size.columns, size.rows);
    }
    this.shrink();
  }

  /** Shrinks the text until every column and row is shown, but not below a readable size. */
  shrink(): void {
    const { options, cols, rows } = this.#terminal;
    let size = this.#fontSize;
    let fits = this.#fittingAt(size);
    while (fits !== null && size > LEAST_FONT_SIZE && (fits.columns < cols || fits.rows < rows)) {
      const scale = Math.min(fits.columns / cols, fits.rows / rows);
      size = Math.max(Math.min(Math.floor(size * scale * 4) / 4, size - 0.25), LEAST_FONT_SIZE);
      fits = this.#fittingAt(size);
    }
    options.fontSize = size;
    this.#follows = true;
    this.#followCursor();
  }

  /** Scrolls a window that is smaller than the screen to the cursor, until the person scrolls it elsewhere. */
  #followCursor(): void {
    const { clientWidth, clientHeight, scrollWidth, scrollHeight } = this.#host;
    if (!this.#follows || (scrollHeight <= clientHeight && scrollWidth <= clientWidth)) return;
    const { cols, rows, buffer } = this.#terminal;
    const { cursorX, cursorY } = buffer.active;
    const top = scrolled(this.#host.scrollTop, (cursorY / rows) * scrollHeight, scrollHeight / rows, clientHeight);
    const left = scrolled(this.#host.scrollLeft, (cursorX / cols) * scrollWidth, scrollWidth / cols, clientWidth);
    if (top === this.#host.scrollTop && left === this.#host.scrollLeft) return;
    this.#host.scrollTo({ top, left });
    this.#scrolledTo = { top: this.#host.scrollTop, left: this.#host.scrollLeft };
  }

  #noteScroll(): void {
    const { viewportY, baseY } = this.#terminal.buffer.active;
    const up = viewportY < baseY;
    if (up === this.#scrolledUp) return;
    this.#scrolledUp = up;
    this.#options.onScrolledUp(up);
  }

  readonly #scrolled = (): void => {
    const { top, left } = this.#scrolledTo;
    this.#follows = Math.abs(this.#host.scrollTop - top) < 2 && Math.abs(this.#host.scrollLeft - left) < 2;
  };

  /** Marks a place where bytes are missing, and sets the modes that are in force after it. */
  cut(text: string, modes: string): void {
    this.setModes(USUAL_MODES);
    this.mark(text);
    this.setModes(modes);
  }

  /** Sets the modes that the server sends; their bytes are not part of the stream. */
  setModes(modes: string): void {
    if (modes !== "") this.#terminal.write(modes);
  }

  /** Writes a line of the page between the program's lines. The text must be the page's own, never the program's. */
  mark(text: string): void {
    const line = ` ${text} `;
    const width = this.#terminal.cols;
    const left = Math.max(2, Math.floor((width - line.length) / 2));
    const right = Math.max(2, width - line.length - left - 1);
    const above = this.#terminal.buffer.active.cursorX > 0 ? "\r\n" : "";
    this.#terminal.write(`${above}\x1b[0;33m${"─".repeat(left)}${line}${"─".repeat(right)}\x1b[0m\r\n`);
  }

  set fontSize(pixels: number) {
    this.#fontSize = pixels;
    this.shrink();
  }

  set dark(dark: boolean) {
    this.#dark = dark;
    this.#terminal.options.theme = dark ? DARK : LIGHT;
  }

  set screenReader(on: boolean) {
    this.#terminal.options.screenReaderMode = on;
  }

  find(text: string, direction: "next" | "previous", options: SearchOptions, incremental = false): void {
    if (text === "") {
      this.#search.clearDecorations();
      this.#options.onMatches({ index: -1, count: 0 });
      return;
    }
    // The addon does not notice that only the options have changed: clearing makes it search again.
    const how = `${options.caseSensitive} ${options.regex}`;
    if (how !== this.#searchedHow) this.#search.clearDecorations();
    this.#searchedHow = how;
    const colours = MATCHES[this.#dark ? "dark" : "light"];
    const search = {
      ...options,
      incremental,
      decorations: {
        matchBackground: colours.match,
        matchOverviewRuler: colours.ruler,
        activeMatchBackground: colours.active,
        activeMatchColorOverviewRuler: colours.ruler,
      },
    };
    try {
      if (direction === "next") this.#search.findNext(text, search);
      else this.#search.findPrevious(text, search);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.#options.onMatches({ index: -1, count: 0 }); // the regular expression is incomplete
    }
  }

  /** The element is in the document again: what scrolls there has lost its place. */
  entered(): void {
    this.#terminal.scrollToBottom();
    this.#terminal.refresh(0, this.#terminal.rows - 1);
  }

  endSearch(): void {
    this.#search.clearDecorations();
    this.#terminal.clearSelection();
  }

  async copy(): Promise<void> {
    const text = this.#terminal.getSelection();
    if (text === "") return;
    try {
      await navigator.clipboard.writeText(text);
      this.#options.onCopied(text.length);
    } catch {
      // The browser denies access to the clipboard (plain http, or no gesture): its own copy command still works.
    }
  }

  focus(): void {
    this.#terminal.focus();
  }

  scrollToEnd(): void {
    this.#terminal.scrollToBottom();
  }

  /** Whether a program shows a full screen, which has no lines that could be wrapped in another way. */
  get fullScreen(): boolean {
    return this.#terminal.buffer.active.type === "alternate";
  }

  /** Calls `changed` after each change of the text, until the returned function is called. */
  watch(changed: () => void): () => void {
    const watched = this.#terminal.onWriteParsed(changed);
    return () => watched.dispose();
  }

  /** The text of scrollback and screen, or of their last `rows` rows, wrapped lines joined. */
  text(rows = Number.POSITIVE_INFINITY): string {
    const buffer = this.#terminal.buffer.active;
    const lines: string[] = [];
    for (let y = Math.max(0, buffer.length - rows); y < buffer.length; y++) {
      const line = buffer.getLine(y);
      if (line === undefined) continue;
      const text = line.translateToString(true);
      if (line.isWrapped && lines.length > 0) lines[lines.length - 1] += text;
      else lines.push(text);
    }
    return lines.join("\n");
  }

  dispose(): void {
    this.#gone = true;
    this.#gutter?.dispose();
    this.#host.removeEventListener("mouseup", this.#copySelection);
    this.#host.removeEventListener("paste", this.#pasted, true);
    this.#host.removeEventListener("scroll", this.#scrolled);
    this.#terminal.dispose();
  }

  /** Pastes a text, and types `after`; several lines only if the program knows that they are pasted or the person agrees. */
  paste(pasted: string, after = ""): void {
    if (this.#typed === null) return;
    const text = harmless(pasted);
    const lines = lineCount(text);
    const paste = (): void => {
      this.#terminal.paste(text);
      if (after !== "") this.#typed?.(after);
      this.#terminal.focus();
    };
    if (lines === 1 || this.#terminal.modes.bracketedPasteMode) paste();
    else this.#options.onLines(text, lines, paste);
  }

  readonly #pasted = (event: ClipboardEvent): void => {
    event.preventDefault();
    event.stopPropagation(); // xterm.js would paste the text as it is
    this.paste(event.clipboardData?.getData("text") ?? "");
  };

  readonly #copySelection = (): void => {
    if (this.#terminal.hasSelection()) void this.copy();
  };

  /**
   * The size that fills the window in this font size; it may leave the terminal in it. What is known of the present
   * window is not tried again: at each change of the font size, xterm.js measures every character anew.
   */
  #fittingAt(fontSize: number): Size | null {
    const { width, height } = getComputedStyle(this.#host);
    const room = `${width} ${height} ${this.#terminal.element?.style.paddingLeft} ${devicePixelRatio} ${this.renderer}`;
    if (room !== this.#room) this.#known.clear();
    this.#room = room;
    const known = this.#known.get(fontSize);
    if (known !== undefined) return known;
    this.#terminal.options.fontSize = fontSize;
    const found = this.#proposed();
    if (found !== null) this.#known.set(fontSize, found);
    return found;
  }

  #proposed(): Size | null {
    const found = this.#fit.proposeDimensions();
    if (found === undefined || !Number.isFinite(found.cols) || !Number.isFinite(found.rows)) return null;
    if (this.#host.clientWidth === 0) return null;
    return { columns: Math.min(Math.max(found.cols, 20), 1000), rows: Math.min(Math.max(found.rows, 4), 1000) };
  }

  #draw(): void {
    if (!graphicsAreFast()) return;
    try {
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => {
        this.renderer = "dom";
        if (!this.#gone) webgl.dispose(); // from now on the document draws
      });
      this.#terminal.loadAddon(webgl);
      this.renderer = "webgl";
    } catch {
      this.renderer = "dom"; // this machine has no WebGL 2
    }
  }
}

/** The scroll position that shows the cell at `start`, at most as far from `at` as needed. */
function scrolled(at: number, start: number, length: number, visible: number): number {
  if (start < at) return start;
  return start + length > at + visible ? start + length - visible : at;
}
