import type { IParser } from "@xterm/xterm";

const REPORTS = [
  { final: "n" }, // DSR: the status, the cursor's place
  { prefix: "?", final: "n" },
  { final: "c" }, // DA1, DA2, DA3
  { prefix: ">", final: "c" },
  { prefix: "=", final: "c" },
  { prefix: ">", final: "q" }, // XTVERSION
  { prefix: "?", final: "u" }, // the keyboard protocol of kitty
  { intermediates: "$", final: "p" }, // DECRQM
  { prefix: "?", intermediates: "$", final: "p" },
];
const SETTINGS = [
  { intermediates: "$", final: "q" }, // DECRQSS
  { intermediates: "+", final: "q" }, // XTGETTCAP
];
const COLOURS = [4, 10, 11, 12];

/** Has an emulator answer no query: the agent answers, once, however many pages show the terminal. */
export function silence(terminal: { parser: IParser }): void {
  for (const id of REPORTS) terminal.parser.registerCsiHandler(id, () => true);
  for (const id of SETTINGS) terminal.parser.registerDcsHandler(id, () => true);
  for (const id of COLOURS) terminal.parser.registerOscHandler(id, (data) => data.split(";").includes("?"));
}
