/** Endings of file names by the language's name in Monaco, for those that agents show most. */
const ENDINGS: Record<string, string> = {
  bat: "bat cmd",
  c: "c h",
  clojure: "clj cljs edn",
  cpp: "cc cpp cxx hh hpp",
  csharp: "cs",
  css: "css",
  dart: "dart",
  dockerfile: "dockerfile",
  elixir: "ex exs",
  fsharp: "fs fsx",
  go: "go",
  graphql: "gql graphql",
  hcl: "hcl tf",
  html: "htm html svelte vue",
  ini: "cfg conf ini properties toml",
  java: "java",
  javascript: "cjs js json json5 jsonc jsonl jsx mjs",
  julia: "jl",
  kotlin: "kt kts",
  less: "less",
  lua: "lua",
  markdown: "markdown md",
  "objective-c": "m mm",
  perl: "pl pm",
  pgsql: "pgsql",
  php: "php",
  powershell: "ps1 psm1",
  protobuf: "proto",
  python: "py pyi",
  r: "r",
  ruby: "gemspec rb",
  rust: "rs",
  scala: "scala",
  scss: "scss",
  shell: "bash sh zsh",
  sql: "sql",
  swift: "swift",
  typescript: "cts mts ts tsx",
  xml: "svg xml xsd",
  yaml: "yaml yml",
};

const BY_ENDING = new Map(Object.entries(ENDINGS).flatMap(([language, endings]) => endings.split(" ").map((ending) => [ending, language])));

/** The language of a file, by its name; `plaintext` if it is not known. */
export function languageOf(path: string | null | undefined): string {
  const name = (path ?? "").split(/[\\/]/).at(-1)?.toLowerCase() ?? "";
  return BY_ENDING.get(name.split(".").at(-1) ?? "") ?? "plaintext";
}
