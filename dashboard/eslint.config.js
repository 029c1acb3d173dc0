import js from "@eslint/js";
import svelte from "eslint-plugin-svelte";
import globals from "globals";
import ts from "typescript-eslint";

export default ts.config(
  { ignores: ["dist/", "node_modules/", ".svelte-check/"] },
  js.configs.recommended,
  ...ts.configs.strict,
  ...svelte.configs.recommended,
  { languageOptions: { globals: globals.browser } },
  {
    files: ["**/*.svelte", "**/*.svelte.ts"],
    languageOptions: { parserOptions: { parser: ts.parser } },
  },
  {
    rules: {
      "no-console": "error",
      "no-control-regex": "off",
      eqeqeq: "error",
      "no-restricted-syntax": [
        "error",
        {
          selector: "CallExpression[callee.name='$state'][arguments.length=0]",
          // Events and timers come after it, too; Svelte's types say `undefined`, which the compiler then believes.
          message: "Give it null at first: Svelte sets what `bind:this` has bound to null when it leaves the page.",
        },
      ],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      // Most maps and sets live for one call: reactive ones are SvelteMap and SvelteSet by choice.
      "svelte/prefer-svelte-reactivity": "off",
    },
  },
);
