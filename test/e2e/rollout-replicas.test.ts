/** Two servers on one PostgreSQL: what one is told of a rollout steers the other within a second. */
import { expect, test } from "vitest";
import { sendRequest } from "../../src/sdk/client.ts";
import { startTwoReplicas } from "./two-replicas.ts";

test("a change is seen here at once, and there soon", async () => {
  const { a, b, close } = await startTwoReplicas();
  try {
    const request = sendRequest("hello", { agent: "puppet" });
    const routeMode = async ({ client }: typeof a) =>
      client.routes.previewRoute({ request }).then(
        ({ agentId }) => agentId || "refused",
        () => "refused",
      );
    expect(await Promise.all([a, b].map(routeMode))).toEqual(["puppet", "puppet"]);
    await a.client.rollouts.updateRollout({ rollout: { rollbackToLocal: true } });
    const changedAt = performance.now();
    expect(await routeMode(a)).toBe("refused");
    let asked: number;
    do asked = performance.now();
    while ((await routeMode(b)) !== "refused" && asked - changedAt < 1000);
    // Whatever was asked a second after the change must have seen it.
    expect(await routeMode(b)).toBe("refused");
  } finally {
    await close();
  }
});
