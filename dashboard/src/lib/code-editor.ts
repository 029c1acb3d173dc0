/** Monaco: texts and code in colours. It is large, so that this module is imported only where it is used. */

import * as monaco from "monaco-editor/editor/editor.api";
import EditorWorker from "monaco-editor/editor/editor.worker?worker";
import "monaco-editor/features/clipboard/register";
import "monaco-editor/features/find/register";
import "monaco-editor/features/folding/register";
import "monaco-editor/features/unicodeHighlighter/register";
import "monaco-editor/features/wordHighlighter/register";
import "monaco-editor/languages/definitions/register.all";

import { languageOf } from "./languages.ts";

self.MonacoEnvironment = { getWorker: () => new EditorWorker() };
for (const [name, base, background] of [
  ["light", "vs", "#ffffff"],
  ["dark", "vs-dark", "#0b0e13"],
] as const) {
  monaco.editor.defineTheme(name, { base, inherit: true, rules: [], colors: { "editor.background": background } });
}

export interface EditorSettings {
  text: string;
  /** The language as Monaco names it; without it, that of the path, else plain text. */
  language?: string | undefined;
  path?: string | undefined;
  /** The number of the first line. */
  line?: number | undefined;
  /** The line that is marked and brought into sight. */
  reveal?: number | undefined;
  /** Called with the text when a person has changed it; without it, the text cannot be changed. */
  changed?: ((text: string) => void) | undefined;
  label: string;
  dark: boolean;
}

export interface Editor {
  setDark: (dark: boolean) => void;
  setText: (text: string) => void;
  close: () => void;
}

/** Shows an editor in the element. Foreign texts keep their hidden characters here, which the editor marks. */
export function openEditor(element: HTMLElement, settings: EditorSettings): Editor {
  monaco.editor.setTheme(themeOf(settings.dark));
  const first = settings.line ?? 1;
  const editor = monaco.editor.create(element, {
    value: settings.text,
    language: settings.language ?? languageOf(settings.path),
    readOnly: settings.changed === undefined,
    domReadOnly: settings.changed === undefined,
    ariaLabel: settings.label,
    lineNumbers: (number) => String(number + first - 1),
    automaticLayout: true,
    minimap: { enabled: false },
    scrollBeyondLastLine: false,
    wordWrap: "on",
    links: false,
    contextmenu: false,
    fontSize: 13,
    renderControlCharacters: true,
    unicodeHighlight: { invisibleCharacters: true, ambiguousCharacters: false, includeComments: true, includeStrings: true },
    tabFocusMode: true,
  });
  const reveal = Math.min(settings.reveal ?? 0, editor.getModel()?.getLineCount() ?? 0);
  if (reveal > 0) {
    editor.setPosition({ lineNumber: reveal, column: 1 });
    editor.revealLineInCenter(reveal);
    editor.createDecorationsCollection([
      { range: new monaco.Range(reveal, 1, reveal, 1), options: { isWholeLine: true, className: "revealed" } },
    ]);
  }
  editor.onDidChangeModelContent(() => settings.changed?.(editor.getValue()));
  return {
    setDark: (dark) => monaco.editor.setTheme(themeOf(dark)),
    setText: (text) => {
      if (editor.getValue() !== text) editor.setValue(text);
    },
    close: () => {
      editor.getModel()?.dispose();
      editor.dispose();
    },
  };
}

/** The HTML of a text in colours: Monaco escapes what is in it. */
export async function colored(text: string, path: string | undefined, dark: boolean, language?: string): Promise<string> {
  monaco.editor.setTheme(themeOf(dark));
  return monaco.editor.colorize(text, language ?? languageOf(path), { tabSize: 4 });
}

function themeOf(dark: boolean): string {
  return dark ? "dark" : "light";
}
