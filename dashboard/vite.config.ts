import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

import { groups } from "./build/chunks.ts";
import { compressed } from "./build/compressed.ts";
import { dimContrast } from "./build/dim-contrast.ts";
import { foreignText } from "./build/foreign-text.ts";

// `npm run dev` serves the page with hot reload; it passes requests on to a control center at its default address.
const server = process.env["ONSEMBL_URL"] ?? "http://127.0.0.1:8400";

export default defineConfig({
  plugins: [svelte({ preprocess: [foreignText()] }), compressed(), dimContrast()],
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // these browsers know light-dark()
    // The page loads all of its scripts at once, and its content security policy allows no inline script.
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
    rolldownOptions: { output: { codeSplitting: { groups, includeDependenciesRecursively: false } } },
  },
  server: {
    proxy: Object.fromEntries(
      ["/v1", "/auth", "/realtime", "/config.json"].map((path) => [path, { target: server, ws: true }]),
    ),
  },
});
