import type { IBufferCell, ITheme } from "@xterm/xterm";

/** Cells beside each other that look alike: a text from a column on. */
export interface Run {
  column: number;
  columns: number;
  text: string;
  fore: string;
  back: string | null;
  bold: boolean;
}

const NAMES = [
  "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white",
  "brightBlack", "brightRed", "brightGreen", "brightYellow", "brightBlue", "brightMagenta", "brightCyan", "brightWhite",
] as const satisfies readonly (keyof ITheme)[];

/** The colour at this place of the palette of 256: sixteen of the theme, a cube of 216, and 24 greys. */
export function paletteColour(index: number, theme: ITheme): string {
  const name = NAMES[index];
  if (name !== undefined) return theme[name] ?? "#808080";
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return rgb(grey, grey, grey);
  }
  const level = (step: number): number => (step === 0 ? 0 : 55 + step * 40);
  const at = index - 16;
  return rgb(level(Math.floor(at / 36)), level(Math.floor(at / 6) % 6), level(at % 6));
}

function rgb(red: number, green: number, blue: number): string {
  return `rgb(${red} ${green} ${blue})`;
}

type Cell = Pick<
  IBufferCell,
  | "getChars" | "getWidth" | "getFgColor" | "getBgColor" | "isFgDefault" | "isBgDefault" | "isFgPalette" | "isBgPalette"
  | "isBold" | "isInverse" | "isDim" | "isInvisible"
>;

/** The runs of a line with something to draw. Only plain characters stand together: others may be wider than a cell. */
export function runsOf(cells: Iterable<Cell>, theme: ITheme): Run[] {
  const runs: Run[] = [];
  let last: Run | null = null;
  let column = 0;
  for (const cell of cells) {
    const width = cell.getWidth();
    if (width === 0) {
      column += 1; // the second half of a wide character, which its first half has drawn
      continue;
    }
    const text = cell.isInvisible() ? "" : cell.getChars();
    const [fore, back] = coloursOf(cell, theme);
    const bold = cell.isBold() !== 0;
    const plain = text.length <= 1 && (text === "" || (text >= " " && text <= "~"));
    if (plain && last !== null && last.fore === fore && last.back === back && last.bold === bold) {
      last.text += text === "" ? " " : text;
      last.columns += width;
    } else {
      last = { column, columns: width, text: text === "" ? " " : text, fore, back, bold };
      runs.push(last);
      if (!plain) last = null;
    }
    column += 1;
  }
  return runs.filter(({ text, back }) => back !== null || text.trim() !== "");
}

function coloursOf(cell: Cell, theme: ITheme): [fore: string, back: string | null] {
  const fore = cell.isFgDefault() ? null : colourOf(cell.getFgColor(), Boolean(cell.isFgPalette()), theme);
  const back = cell.isBgDefault() ? null : colourOf(cell.getBgColor(), Boolean(cell.isBgPalette()), theme);
  const text = theme.foreground ?? "#ffffff";
  if (cell.isInverse()) return [back ?? theme.background ?? "#000000", fore ?? text];
  return [fore ?? (cell.isDim() ? (theme.brightBlack ?? text) : text), back];
}

function colourOf(value: number, isPalette: boolean, theme: ITheme): string {
  return isPalette ? paletteColour(value, theme) : rgb(value >> 16, (value >> 8) & 255, value & 255);
}

/** The font size at which all columns fit, or that can just be read, and the rows that are seen then: at least the cursor's. */
export function placed(
  tile: { width: number; height: number },
  screen: { columns: number; rows: number; cursorRow: number },
  /** Of a cell, in parts of the font size. */
  cell: { width: number; height: number },
): { fontSize: number; first: number; visible: number } {
  const fontSize = Math.min(Math.max(tile.width / (screen.columns * cell.width), LEAST_PX), MOST_PX);
  const visible = Math.max(1, Math.min(screen.rows, Math.floor(tile.height / (fontSize * cell.height))));
  const first = Math.min(Math.max(screen.cursorRow + 1 - visible, 0), screen.rows - visible);
  return { fontSize, first, visible };
}

/** Below it nobody reads anything: the columns that do not fit are left out. */
const LEAST_PX = 7;
const MOST_PX = 13;
