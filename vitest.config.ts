import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { LongestFirst } from "./test/setup/longest-first.ts";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["./test/setup/command.ts", "./test/setup/postgres.ts"],
    // No test may write a secret where everybody reads it.
    setupFiles: ["./test/setup/scan-secrets.ts"],
    // The processes that tests start load what an earlier one has compiled.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("node_modules/.cache/signalbox/compiled", import.meta.url)) },
    sequence: { sequencer: LongestFirst },
    pool: "forks",
    // PGlite's WebAssembly is compiled by V8's baseline compiler alone: the optimizing one takes longer than most tests do.
    execArgv: ["--liftoff-only"],
    // Files of one process share what they import, which takes longer than most of them. So none may replace modules, or leave anything
    // behind in them.
    isolate: false,
    // Tests start servers and databases of their own, and wait for them: one more than the smallest machine has cores.
    maxWorkers: 3,
    // Bounds for what hangs, not measures of what is slow: tests wait for events.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    expect: { poll: { timeout: 15_000 } },
    reporters: ["default", "./test/setup/closing-line.ts"],
  },
});
