import { defineConfig, mergeConfig } from "vitest/config";

import vite from "./vite.config.ts";

export default mergeConfig(vite, defineConfig({ test: { include: ["src/**/*.test.ts"], environment: "node", pool: "vmThreads", maxWorkers: 1, testTimeout: 60_000 } }));
