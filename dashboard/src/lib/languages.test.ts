import { expect, test } from "vitest";

import { languageOf } from "./languages.ts";

test.each([
  ["src/cache.py", "python"],
  ["C:\\work\\Main.CS", "csharp"],
  ["deploy/Dockerfile", "dockerfile"],
  ["a.tar.gz", "plaintext"],
  ["README", "plaintext"],
  ["", "plaintext"],
  [null, "plaintext"],
])("the language of %s is %s", (path, language) => {
  expect(languageOf(path)).toBe(language);
});
