import type { IMarker, Terminal } from "@xterm/xterm";

export type Emulator = Pick<Terminal, "buffer" | "parser" | "registerMarker" | "rows">;

/** A marker costs time whenever a line leaves the scrollback: of more seconds than these, the older half is thinned out. */
export const MOST_SECONDS = 2048;

interface Entry {
  marker: IMarker;
  /** How many lines after the marker the first line of this time is: 0 or 1. */
  after: number;
  second: number;
  /** The second of the last of its lines may be a later one. */
  about: boolean;
}

/**
 * The second (Unix time) in which the first byte of each line was received, for the lines of the normal buffer.
 *
 * The emulator moves the markers when lines scroll, wrap anew or leave. There is one for each second with output, of older
 * lines one for several seconds.
 */
export class LineTimes {
  readonly #terminal: Emulator;
  #entries: Entry[] = [];
  /** The second of the lines above the first entry; 0 if it is not known. */
  #first = 0;
  #firstAbout = false;
  #now: number | null = null;
  #nowAbout = false;
  /** How many seconds apart the entries of the older half are at least. */
  #step = 1;
  /** A marker may have left with its line. */
  #gone = false;
  /** The newest marker may stand on the line before its own. */
  #unsettled = false;

  constructor(terminal: Emulator) {
    this.#terminal = terminal;
    const { parser, buffer } = terminal;
    parser.registerCsiHandler({ final: "J" }, ([how]) => {
      if (how === 2) this.#erase(buffer.normal.baseY);
      else if (how === 0) this.#erase(this.#next());
      return false;
    });
    parser.registerCsiHandler({ final: "K" }, ([how]) => {
      // A line among others that have text keeps its time, as they do.
      if (how === 2 && !this.#isNow(this.#cursor()) && this.#free() <= this.#cursor() + 1) this.#erase(this.#cursor());
      return false;
    });
    // At that moment the cursor is still at its place in the other buffer.
    buffer.onBufferChange(() => this.#begin(this.#free(buffer.normal.baseY)));
  }

  /** The bytes from here on were received in this second, or `about` in it. */
  stamp(second: number, about = false): void {
    if (second === this.#now) return;
    this.settle();
    this.#now = second;
    this.#nowAbout = about;
    this.#begin(this.#free());
  }

  /** The second in which the line began; null if it is not known. */
  at(line: number): number | null {
    return (this.#entryOf(line)?.second ?? this.#first) || null;
  }

  /** Whether the line may have begun somewhat later than the second that `at` has. */
  isAbout(line: number): boolean {
    return this.#entryOf(line)?.about ?? this.#firstAbout;
  }

  /** The last entry that begins at the line or before it. */
  #entryOf(line: number): Entry | undefined {
    this.#prune();
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (startOf(this.#entries[middle] as Entry) <= line) low = middle + 1;
      else high = middle;
    }
    return this.#entries[low - 1];
  }

  /** The second of the oldest line whose time is known; null if there is none. */
  get oldest(): number | null {
    this.#prune();
    return this.#first || (this.#entries.find(({ second }) => second > 0)?.second ?? null);
  }

  /** The first line that began in this second or later; null if all began before it. */
  lineAt(second: number): number | null {
    this.#prune();
    if (this.#first >= second) return 0;
    const found = this.#entries.find((entry) => entry.second >= second);
    return found === undefined ? null : startOf(found);
  }

  /** The line after the last one that has text or the cursor in it. */
  get end(): number {
    return this.#free();
  }

  clear(): void {
    const left = this.#entries;
    this.#entries = [];
    for (const { marker } of left) marker.dispose();
    this.#first = 0;
    this.#now = null;
    this.#step = 1;
    this.#unsettled = false;
  }

  #cursor(): number {
    const { baseY, cursorY } = this.#terminal.buffer.normal;
    return baseY + cursorY;
  }

  /** The first line that begins at the cursor or after it. */
  #next(): number {
    return this.#cursor() + (this.#terminal.buffer.normal.cursorX > 0 ? 1 : 0);
  }

  /** The first line that has no byte yet. */
  #free(least = this.#next()): number {
    const buffer = this.#terminal.buffer.normal;
    let line = Math.min(buffer.baseY + this.#terminal.rows, buffer.length);
    while (line > least && buffer.getLine(line - 1)?.translateToString(true) === "") line -= 1;
    return Math.max(line, least);
  }

  /** The lines from here on are erased: the text that is written there next is of the present second. */
  #erase(line: number): void {
    if (!this.#isNow(line)) this.#begin(line, 1); // the emulator removes the markers of erased lines
  }

  /** Whether the lines from here on are of the present second already. */
  #isNow(line: number): boolean {
    const last = this.#entries.at(-1);
    return last === undefined ? this.#first === this.#now : last.second === this.#now && startOf(last) <= line;
  }

  /** The lines from here on are of the present second. The marker stands `after` lines before. */
  #begin(line: number, after = 0): void {
    if (this.#terminal.buffer.active.type !== "normal" || this.#now === null) return;
    this.#prune();
    for (let last = this.#entries.at(-1); last !== undefined && startOf(last) >= line; last = this.#entries.at(-1)) {
      this.#entries.pop();
      last.marker.dispose();
    }
    if (line <= 0) [this.#first, this.#firstAbout] = [this.#now, this.#nowAbout];
    else if ((this.#entries.at(-1)?.second ?? this.#first) !== this.#now) {
      this.#entries.push({ marker: this.#mark(line - after), after, second: this.#now, about: this.#nowAbout });
      this.#unsettled = after > 0;
      if (this.#entries.length > MOST_SECONDS) this.#thin();
    }
  }

  /** Leaves out entries of the older half that are less than a step after one that is kept: half of them at least. */
  #thin(): void {
    const half = this.#entries.length >> 1;
    const older = this.#entries.slice(0, half);
    let kept = this.#apart(older);
    for (; kept.size > half / 2; kept = this.#apart(older)) this.#step *= 2;
    let last: Entry | undefined;
    for (const entry of older) {
      if (kept.has(entry)) last = entry;
      else {
        if (last !== undefined) last.about = true;
        entry.marker.dispose();
      }
    }
    this.#entries = [...kept, ...this.#entries.slice(half)];
  }

  #apart(entries: Entry[]): Set<Entry> {
    const kept = new Set<Entry>();
    let last: Entry | undefined;
    for (const entry of entries) {
      if (last !== undefined && Math.abs(entry.second - last.second) < this.#step) continue;
      kept.add(entry);
      last = entry;
    }
    return kept;
  }

  #mark(line: number): IMarker {
    const marker = this.#terminal.registerMarker(line - this.#cursor());
    marker.onDispose(() => (this.#gone = true));
    return marker;
  }

  /** Puts the newest marker onto its own line. The line before may be joined to another when the terminal gets wider. */
  settle(): void {
    if (!this.#unsettled || this.#terminal.buffer.active.type !== "normal") return;
    this.#unsettled = false;
    const last = this.#entries.at(-1);
    if (last === undefined || last.marker.isDisposed) return;
    const before = last.marker;
    last.marker = this.#mark(startOf(last));
    last.after = 0;
    before.dispose();
  }

  /** Forgets entries whose line is gone. The lines after it may still be there. */
  #prune(): void {
    if (!this.#gone) return;
    this.#gone = false;
    const kept = this.#entries.findIndex(({ marker }) => !marker.isDisposed);
    const left = this.#entries[(kept < 0 ? this.#entries.length : kept) - 1];
    if (left !== undefined) [this.#first, this.#firstAbout] = [left.second, left.about];
    this.#entries = this.#entries.filter(({ marker }) => !marker.isDisposed);
  }
}

function startOf({ marker, after }: Entry): number {
  return marker.line + after;
}
