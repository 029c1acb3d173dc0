import { expect, test } from "vitest";

import { html } from "./markdown.ts";

test("markdown becomes HTML", () => {
  expect(html("# A\n\n- **b** `c`")).toBe("<h1>A</h1>\n<ul>\n<li><strong>b</strong> <code>c</code></li>\n</ul>\n");
});

test.each([
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "![x](https://example.org/x.png)",
  "[x](javascript:alert(1))",
  "[x](data:text/html,x)",
  "<javascript:alert(1)>",
])("%s loads and runs nothing", (text) => {
  expect(html(text)).not.toMatch(/<script|<img|href="(javascript|data)/i);
});

test("links open elsewhere, and hidden characters are seen", () => {
  expect(html("[x](https://example.org)")).toContain('target="_blank" rel="noopener noreferrer"');
  expect(html("a\u202eb")).toContain("\\u202e");
});
