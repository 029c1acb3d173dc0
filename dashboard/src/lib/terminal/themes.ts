import type { ITheme } from "@xterm/xterm";

/** In both themes the sixteen colours, except black and white, have a contrast of at least 4.5 : 1 to the background. */
export const DARK: ITheme = {
  background: "#0b0e13",
  foreground: "#d5dae3",
  cursor: "#d5dae3",
  cursorAccent: "#0b0e13",
  selectionBackground: "#2f4a73",
  selectionInactiveBackground: "#26364f",
  black: "#3b4352",
  red: "#ff7b85",
  green: "#7fd18b",
  yellow: "#e5c07b",
  blue: "#74b0ff",
  magenta: "#d59bf6",
  cyan: "#5fd0d4",
  white: "#c3c9d4",
  brightBlack: "#7d8798",
  brightRed: "#ff9aa2",
  brightGreen: "#a3e0ab",
  brightYellow: "#f3d79b",
  brightBlue: "#9cc7ff",
  brightMagenta: "#e4bcfa",
  brightCyan: "#90e1e4",
  brightWhite: "#f2f4f8",
};

export const LIGHT: ITheme = {
  background: "#ffffff",
  foreground: "#1d2530",
  cursor: "#1d2530",
  cursorAccent: "#ffffff",
  selectionBackground: "#b9d4fb",
  selectionInactiveBackground: "#d9e5f7",
  black: "#1d2530",
  red: "#c0222f",
  green: "#1a7037",
  yellow: "#855a00",
  blue: "#1257c2",
  magenta: "#8b2fb0",
  cyan: "#0b6c75",
  white: "#5b6675",
  brightBlack: "#66707f",
  brightRed: "#d12f3c",
  brightGreen: "#1f7a3e",
  brightYellow: "#8a6100",
  brightBlue: "#1b66d6",
  brightMagenta: "#9a3fc0",
  brightCyan: "#0f767f",
  brightWhite: "#3b4554",
};

/** Colours of search matches: the search addon takes only #RRGGBB. */
export const MATCHES = {
  dark: { match: "#5a4a16", active: "#b7791f", ruler: "#b7791f" },
  light: { match: "#fff0b3", active: "#ffc233", ruler: "#c98a00" },
};
