import { Terminal, type ITheme } from "@xterm/xterm";

import type { Tokens } from "../api.ts";
import type { Attached, StreamStarted } from "../protocol.ts";
import { Flow } from "../terminal/flow.ts";
import { silence } from "../terminal/silence.ts";
import { TerminalSocket, type LinkStatus } from "../terminal/socket.ts";
import { DARK, LIGHT } from "../terminal/themes.ts";
import { todaysWidths } from "../terminal/widths.ts";
import { placed, runsOf } from "./cells.ts";
import type { Drawn, Painter } from "./painter.ts";

const FONT = 'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
const LINE_HEIGHT = 1.2;

export interface TileOptions {
  url: string;
  tokens: Tokens;
  dark: boolean;
  painter: Painter;
  onStatus: (status: LinkStatus) => void;
}

/**
 * An agent's terminal in a tile: the whole stream in an emulator of its own, of which the screen is drawn on a canvas.
 *
 * The emulator only parses: without a document of its own and without WebGL, of which a browser holds about 16 contexts,
 * a wall of 24 tiles costs what its bytes cost to parse. It has no scrollback.
 */
export class Tile implements Drawn {
  readonly #canvas: HTMLCanvasElement;
  readonly #options: TileOptions;
  readonly #terminal = new Terminal({ allowProposedApi: true, disableStdin: true, scrollback: 0 });
  readonly #flow: Flow;
  readonly #socket: TerminalSocket;
  readonly #observer: ResizeObserver;
  #theme: ITheme;
  #streamId: string | null = null;

  constructor(canvas: HTMLCanvasElement, options: TileOptions) {
    this.#canvas = canvas;
    this.#options = options;
    this.#theme = options.dark ? DARK : LIGHT;
    silence(this.#terminal);
    const widths = todaysWidths();
    this.#terminal.unicode.register(widths);
    this.#terminal.unicode.activeVersion = widths.version;
    this.#terminal.onWriteParsed(() => options.painter.changed(this));
    this.#flow = new Flow((data, drawn) => this.#terminal.write(data, drawn), {
      overflowed: () => this.#socket.pause(),
      drained: () => {
        this.#flow.restart();
        this.#socket.resume(this.#flow.place);
      },
    });
    const begin = (stream: Attached | StreamStarted): void => {
      const after = { streamId: stream.stream_id, offset: stream.offset };
      this.#flow.then(() => this.#begin(stream), after);
    };
    this.#socket = new TerminalSocket({
      url: options.url,
      tokens: options.tokens,
      events: {
        status: options.onStatus,
        attached: begin,
        started: begin,
        bytes: (data, after) => this.#flow.bytes(data, after),
        gap: ({ modes }, after) => this.#flow.then(() => this.#cut(modes ?? ""), after),
        times: () => undefined,
        resized: (size) => this.#flow.then(() => this.#resize(size.columns, size.rows)),
        controlled: () => undefined,
        taken: () => undefined,
      },
    });
    this.#observer = new ResizeObserver(() => options.painter.changed(this));
    this.#observer.observe(canvas);
  }

  token(accessToken: string): void {
    this.#socket.token(accessToken);
  }

  set dark(dark: boolean) {
    this.#theme = dark ? DARK : LIGHT;
    this.#options.painter.changed(this);
  }

  /** The text of the screen. */
  text(): string {
    const { active } = this.#terminal.buffer;
    return Array.from({ length: this.#terminal.rows }, (_, y) => active.getLine(active.baseY + y)?.translateToString(true) ?? "").join("\n");
  }

  close(): void {
    this.#observer.disconnect();
    this.#socket.close();
    this.#flow.abandon();
    this.#options.painter.left(this);
    this.#terminal.dispose();
  }

  draw(): void {
    const context = this.#canvas.getContext("2d", { alpha: false });
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (context === null || width === 0 || height === 0) return;
    const scale = devicePixelRatio;
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.#canvas.width !== wide || this.#canvas.height !== high) Object.assign(this.#canvas, { width: wide, height: high });
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = this.#theme.background ?? "#000000";
    context.fillRect(0, 0, width, height);
    context.textBaseline = "middle";
    context.font = `100px ${FONT}`;
    const cell = { width: context.measureText("M").width / 100, height: LINE_HEIGHT };
    const { cols: columns, rows } = this.#terminal;
    const { active } = this.#terminal.buffer;
    const { fontSize, first, visible } = placed({ width, height }, { columns, rows, cursorRow: active.cursorY }, cell);
    const [cellWidth, cellHeight] = [fontSize * cell.width, fontSize * cell.height];
    let isBold: boolean | null = null;
    for (let y = 0; y < visible; y += 1) {
      const line = active.getLine(active.baseY + first + y);
      if (line === undefined) continue;
      const top = y * cellHeight;
      for (const run of runsOf(cellsOf(line, columns), this.#theme)) {
        const left = run.column * cellWidth;
        if (run.back !== null) {
          context.fillStyle = run.back;
          context.fillRect(left, top, run.columns * cellWidth, cellHeight);
        }
        if (run.text.trim() === "") continue;
        if (run.bold !== isBold) context.font = `${run.bold ? "bold " : ""}${fontSize}px ${FONT}`;
        isBold = run.bold;
        context.fillStyle = run.fore;
        context.fillText(run.text, left, top + cellHeight / 2);
      }
    }
  }

  #begin(stream: Attached | StreamStarted): void {
    const continues = stream.type === "attached" && stream.mode !== "tail" && stream.stream_id === this.#streamId;
    this.#streamId = stream.stream_id;
    if (!continues) this.#terminal.reset();
    this.#resize(stream.columns, stream.rows);
    if (stream.type === "attached") this.#cut(stream.modes ?? "");
    this.#options.painter.changed(this);
  }

  /** After bytes that are missing, the modes that are in force. */
  #cut(modes: string): void {
    if (modes !== "") this.#terminal.write(modes);
  }

  #resize(columns: number, rows: number): void {
    if (columns !== this.#terminal.cols || rows !== this.#terminal.rows) this.#terminal.resize(columns, rows);
    this.#options.painter.changed(this);
  }
}

function* cellsOf(line: NonNullable<ReturnType<Terminal["buffer"]["active"]["getLine"]>>, columns: number) {
  let cell = line.getCell(0);
  for (let x = 0; x < columns && cell !== undefined; x += 1) {
    cell = line.getCell(x, cell);
    if (cell !== undefined) yield cell;
  }
}
