/** The fault suite in full: `npm run test:faults`, about five minutes. */
import { test } from "vitest";
import { expectProof } from "./expect-proof.ts";

test("nothing is lost, doubled or torn while things break", async () => {
  await expectProof("faults", { tasks: 4000, clients: 80, every: 60, workMs: 240_000, restMs: 60_000 });
}, 400_000);
