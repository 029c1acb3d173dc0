import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

const SOURCES = dirname(dirname(fileURLToPath(import.meta.url)));

/** Static imports, also of types alone, and imports that load a page when it is opened. */
const IMPORT = /\bfrom\s+"(\.[^"]+)"|\bimport\(?\s*"(\.[^"]+)"/g;

/** The project's own modules by path, each with the modules that it imports. */
function importsOfModules(): Map<string, string[]> {
  const files = readdirSync(SOURCES, { recursive: true, encoding: "utf-8" }).filter((file) => /\.(ts|svelte)$/.test(file));
  return new Map(
    files.map((file) => {
      const found = [...readFileSync(join(SOURCES, file), "utf-8").matchAll(IMPORT)];
      return [file, found.map((match) => join(dirname(file), (match[1] ?? match[2] ?? "").replace(/\?.*/, "")))];
    }),
  );
}

/** The first circle of imports, as the list of its modules; null when there is none. */
function circleOf(imports: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  function visit(module: string, path: string[]): string[] | null {
    if (path.includes(module)) return [...path.slice(path.indexOf(module)), module];
    if (done.has(module)) return null;
    for (const imported of imports.get(module) ?? []) {
      const circle = visit(imported, [...path, module]);
      if (circle !== null) return circle;
    }
    done.add(module);
    return null;
  }
  for (const module of imports.keys()) {
    const circle = visit(module, []);
    if (circle !== null) return circle;
  }
  return null;
}

test("a circle of imports is found", () => {
  const imports = new Map([["a", ["b"]], ["b", ["c"]], ["c", ["b"]]]);
  expect(circleOf(imports)).toEqual(["b", "c", "b"]);
});

test("no module imports itself by way of others", () => {
  const imports = importsOfModules();
  expect(imports.get("lib/app.svelte.ts")).toContain("lib/inbox.svelte.ts");
  expect(circleOf(imports)).toBeNull();
});

test("modules under lib/ import no component; lib/pages.ts alone loads pages", () => {
  const wrong = [...importsOfModules()].filter(
    ([file, imports]) => file.startsWith("lib/") && file !== "lib/pages.ts" && imports.some((name) => name.endsWith(".svelte")),
  );
  expect(wrong).toEqual([]);
});
