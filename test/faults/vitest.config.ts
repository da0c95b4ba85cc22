import { defineConfig } from "vitest/config";

/** `npm run test:faults`: the fault suite in full, which brings its own PostgreSQL. */
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ["full.faults.ts"],
    globalSetup: ["../setup/command.ts"],
    pool: "forks",
    reporters: ["default", "../setup/closing-line.ts"],
  },
});
