/** The fault suite in short, for every run of the tests. `npm run test:faults` is the long one. */
import { test } from "vitest";
import { expectProof } from "./expect-proof.ts";

test("nothing is lost, doubled or torn while things break", async () => {
  await expectProof("faults in short", { tasks: 300, clients: 24, every: 20, workMs: 120_000, restMs: 60_000 });
}, 240_000);
