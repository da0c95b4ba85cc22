/** Loads that take longer than they are held: whoever waited for one has what it brought, or something later. */
import { expect, it } from "vitest";
import { loadBriefly } from "../../src/services/held-briefly.ts";

function lab() {
  const loads: PromiseWithResolvers<string>[] = [];
  const kept: string[] = [];
  let nowMs = 0;
  const briefly = loadBriefly({ elapsedMs: () => nowMs }, async (_, keeps) => {
    const load = Promise.withResolvers<string>();
    loads.push(load);
    const brought = await load.promise;
    if (keeps()) kept.push(brought);
  });
  const begin = () => {
    nowMs += 2_000;
    return briefly.load("default");
  };
  return { loads, kept, begin };
}

it("keeps what a load brought although another was begun meanwhile, until that one has brought something", async () => {
  const { loads, kept, begin } = lab();
  const [first, second] = [begin(), begin()];
  loads[0]!.resolve("old");
  await first;
  expect(kept).toEqual(["old"]);
  loads[1]!.resolve("new");
  await second;
  expect(kept).toEqual(["old", "new"]);
});

it("does not keep what a load brought that was begun before another which has brought something", async () => {
  const { loads, kept, begin } = lab();
  const [first, second] = [begin(), begin()];
  loads[1]!.resolve("new");
  loads[0]!.resolve("old");
  await Promise.all([first, second]);
  expect(kept).toEqual(["new"]);
});
