/** The keys of the page, in one table: the page obeys it and `?` shows it. */
export type KeyAction =
  | "palette"
  | "keys"
  | "command"
  | "next"
  | "previous"
  | "agents"
  | "terminal"
  | "commands"
  | "find"
  | "cancel"
  | "larger"
  | "smaller";

export interface Binding {
  action: KeyAction | null;
  /** `event.key`s, `Ctrl+` before those that need Ctrl or ⌘. */
  keys: string[];
  help: string;
  /** Obeyed while the person types in a field, too. */
  always?: boolean;
}

export const BINDINGS: Binding[] = [
  { action: "palette", keys: ["Ctrl+k"], help: "Go to an agent, or do anything", always: true },
  { action: "palette", keys: ["/"], help: "The same" },
  { action: "next", keys: ["j"], help: "Next agent, or next command when one has the focus" },
  { action: "previous", keys: ["k"], help: "The one before" },
  { action: "command", keys: ["c"], help: "Write a command" },
  { action: "cancel", keys: ["x"], help: "Cancel the command that runs, or the one with the focus; twice" },
  { action: "agents", keys: ["1"], help: "To the agents" },
  { action: "terminal", keys: ["2"], help: "To the terminal" },
  { action: "commands", keys: ["3"], help: "To the commands" },
  { action: "find", keys: ["Ctrl+f"], help: "Find in the terminal; again for the browser's own search", always: true },
  { action: "larger", keys: ["+", "="], help: "Larger terminal text" },
  { action: "smaller", keys: ["-"], help: "Smaller terminal text" },
  { action: null, keys: ["Enter"], help: "Send the command" },
  { action: null, keys: ["Shift+Enter"], help: "New line in the command" },
  { action: null, keys: ["↑", "↓"], help: "Commands sent before, in the command box" },
  { action: null, keys: ["Alt+↑", "Alt+↓"], help: "Sooner or later: the command's priority" },
  { action: null, keys: ["Shift+PgUp", "Shift+PgDn"], help: "Scroll the terminal" },
  { action: null, keys: ["Esc"], help: "Out of a field or a dialog" },
  { action: "keys", keys: ["?"], help: "These keys" },
];

/** What the key means; null when it is the browser's or a field's own. */
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

/** Whether keys that arrive here go to the program in the terminal, every one of them. */
function isTypedAt(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.classList.contains("xterm-helper-textarea") && target.closest("[data-typing]") !== null;
}

/** Whether keys that arrive here are written. The terminal's own field takes none while it only shows. */
function isField(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement) || target.classList.contains("xterm-helper-textarea")) return false;
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}
