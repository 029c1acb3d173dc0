/** The page's keyboard shortcuts: one table for the page and for the help at `?`. */
export type KeyAction =
  | "palette"
  | "keys"
  | "inbox"
  | "command"
  | "next"
  | "previous"
  | "agents"
  | "filter"
  | "terminal"
  | "type"
  | "commands"
  | "find"
  | "times"
  | "fold"
  | "jump"
  | "cancel"
  | "larger"
  | "smaller";

export interface Binding {
  action: KeyAction | null;
  /** Values of `event.key`; `Ctrl+` before a key that needs Ctrl or ⌘. */
  keys: string[];
  help: string;
  /** The shortcut works in text fields, too. */
  always?: boolean;
}

export const BINDINGS: Binding[] = [
  { action: "palette", keys: ["Ctrl+k"], help: "Go to an agent or run an action", always: true },
  { action: "palette", keys: ["/"], help: "The same, outside text fields" },
  { action: "inbox", keys: ["w"], help: "Go to the inbox; from there, back to the fleet" },
  { action: "next", keys: ["j"], help: "Next agent; next command if a command has the focus" },
  { action: "previous", keys: ["k"], help: "Previous agent; previous command if a command has the focus" },
  { action: "command", keys: ["c"], help: "Write a command" },
  { action: "cancel", keys: ["x"], help: "Cancel the focused or the running command: press twice" },
  { action: "agents", keys: ["1"], help: "Go to the agents" },
  { action: "filter", keys: ["f"], help: "Filter the agents" },
  { action: null, keys: ["."], help: "Open the menu of the focused agent" },
  { action: null, keys: ["Shift+↑", "Shift+↓"], help: "Select several agents; x takes one in or out" },
  { action: "terminal", keys: ["2"], help: "Go to the terminal" },
  { action: "type", keys: ["t"], help: "Type into the program in the terminal" },
  { action: null, keys: ["Ctrl+Shift+Esc"], help: "Stop typing into the program" },
  { action: "commands", keys: ["3"], help: "Go to the commands" },
  { action: "find", keys: ["Ctrl+f"], help: "Find in the terminal, or in the steps of a turn; press again for the browser's search", always: true },
  { action: "fold", keys: ["]"], help: "Fold the column of commands, or show it again" },
  { action: "times", keys: ["g"], help: "Show or hide the time of each line" },
  { action: "jump", keys: ["G"], help: "Jump to a time, in the scrollback or in the recording" },
  { action: "larger", keys: ["+", "="], help: "Larger terminal text" },
  { action: "smaller", keys: ["-"], help: "Smaller terminal text" },
  { action: null, keys: ["Enter"], help: "Send the command" },
  { action: null, keys: ["Ctrl+Enter"], help: "Put the text into the running turn or program instead" },
  { action: null, keys: ["Shift+Enter"], help: "New line in the command" },
  { action: null, keys: ["↑", "↓"], help: "Earlier commands, in the command box" },
  { action: null, keys: ["Alt+↑", "Alt+↓"], help: "Raise or lower the command's priority" },
  { action: null, keys: ["Shift+PgUp", "Shift+PgDn"], help: "Scroll the terminal" },
  { action: null, keys: ["Esc"], help: "Leave a field or close a dialog" },
  { action: "keys", keys: ["?"], help: "Show these shortcuts" },
];

/** The action of a key; null for a key that is left to the browser or to a field. */
export function actionOf(event: KeyboardEvent): KeyAction | null {
  if (event.altKey || event.isComposing || isTypedAt(event.target)) return null;
  const command = event.ctrlKey || event.metaKey;
  const key = command ? `Ctrl+${event.key.toLowerCase()}` : event.key;
  const typing = isField(event.target);
  for (const binding of BINDINGS) {
    if (binding.action !== null && binding.keys.includes(key) && (binding.always === true || !typing)) {
      return binding.action;
    }
  }
  return null;
}

/** Whether every key at this element goes to the program in the terminal. */
function isTypedAt(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.classList.contains("xterm-helper-textarea") && target.closest("[data-typing]") !== null;
}

/** Whether keys at this element are text. The terminal's own field takes no text while this window has no control. */
export function isField(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement) || target.classList.contains("xterm-helper-textarea")) return false;
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}
