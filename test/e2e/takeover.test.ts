/** Two servers on one PostgreSQL: who gets a message takes the task, whichever of them had it. */
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { asTask, statusOf, textOf } from "../fault/said.ts";
import { journalOf, linesOf, outcomeOf, reaches, restOf } from "./journal.ts";
import { startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

let lab: TwoReplicas;
beforeAll(async () => {
  lab = await startTwoReplicas();
  return () => lab.close();
});
const both = () => [lab.a.client, lab.b.client];

/** A task at A whose agent has named it and stands so. */
async function atA(state: "WORKING" | "INPUT_REQUIRED" | "AUTH_REQUIRED") {
  const { id } = asTask(await lab.a.client.send("begin", { wait: false }));
  const turn = await lab.puppet.turn();
  turn.name();
  if (state !== "WORKING") turn.status(state, "Who?");
  await reaches(lab.b.client, id, state);
  return { id, turn };
}

/** Who wrote each step of a task, and that no token was ever older than the one before it. */
async function writersOf(id: string): Promise<string> {
  const steps = await journalOf(lab.b.client, id);
  const tokens = steps.map(({ token }) => token);
  expect(tokens).toEqual([...tokens].sort((x, y) => x - y));
  return steps.map(({ by }) => (by === lab.a.id ? "A" : by === lab.b.id ? "B" : by)).join("");
}

describe.each(["INPUT_REQUIRED", "AUTH_REQUIRED"] as const)("a message at B for a task that A left in %s", (state) => {
  test("goes to the agent from B, which follows the task to its end", async () => {
    const { id } = await atA(state);
    const stream = linesOf(lab.a.client.watch(id));
    expect(await stream.next()).toBe(`task ${state}: Who?`);
    const answered = lab.b.client.send("me", { taskId: id });
    const next = await lab.puppet.turn();
    expect(next.text).toBe("me");
    next.status("WORKING", "You.");
    next.chunk("for you");
    next.status("COMPLETED", "Done.");
    expect(statusOf(asTask(await answered))).toBe("COMPLETED: Done.");
    // Who watches at A sees what is written at B.
    expect(await restOf(stream)).toEqual(["WORKING", "WORKING: You.", "chunk for you", "COMPLETED: Done.", "end"]);
    expect(await outcomeOf(both(), id)).toBe("COMPLETED: Done.");
    expect(await writersOf(id)).toMatch(/^A+B+$/);
  });
});

test("a message at B for a task that works at A is added to it, and A stops listening", async () => {
  const { id } = await atA("INPUT_REQUIRED");
  const blocked = lab.a.client.send("me", { taskId: id });
  const turn = await lab.puppet.turn();
  turn.status("WORKING", "At it.");
  await reaches(lab.b.client, id, "WORKING: At it.");
  const more = lab.b.client.send("more", { taskId: id });
  const added = await lab.puppet.turn();
  expect([added.text, added.taskId]).toEqual(["more", turn.taskId]);
  expect(await lab.puppet.left()).toBe(turn.taskId);
  turn.status("COMPLETED", "Both.");
  expect(statusOf(asTask(await more))).toBe("COMPLETED: Both.");
  // Who waits at A is answered with what B heard.
  expect(statusOf(asTask(await blocked))).toBe("COMPLETED: Both.");
  expect((await lab.a.client.a2a.getTask({ id })).history.map(textOf)).toEqual([
    "begin",
    "Who?",
    "me",
    "more",
    "At it.",
  ]);
  expect(await outcomeOf(both(), id)).toBe("COMPLETED: Both.");
  expect(await writersOf(id)).toMatch(/^A+B+$/);
});

test("two messages at once, at A and at B, both reach the agent, once each", async () => {
  for (let round = 0; round < 5; round++) {
    const { id, turn } = await atA("WORKING");
    const sent = [lab.a, lab.b].map(({ client }, i) => client.send(`${round} ${i}`, { taskId: id, wait: false }));
    await Promise.all(sent);
    const heard = [await lab.puppet.turn(), await lab.puppet.turn()];
    expect(heard.map(({ text }) => text).sort()).toEqual([`${round} 0`, `${round} 1`]);
    expect(heard.map(({ taskId }) => taskId)).toEqual([turn.taskId, turn.taskId]);
    turn.status("COMPLETED", "Done.");
    expect(await outcomeOf(both(), id)).toBe("COMPLETED: Done.");
  }
});

test("a message at B waits until the agent has named the task to A", async () => {
  const { id } = asTask(await lab.a.client.send("begin", { wait: false }));
  const turn = await lab.puppet.turn();
  const more = lab.b.client.send("more", { taskId: id });
  turn.name();
  expect((await lab.puppet.turn()).taskId).toBe(turn.taskId);
  turn.status("COMPLETED");
  expect(statusOf(asTask(await more))).toBe("COMPLETED");
});

test("what the agent says while the task moves is written down once, whenever it says it", async () => {
  const moments = fc.array(fc.record({ chunks: fc.nat({ max: 3 }), turns: fc.nat({ max: 30 }) }), { maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(moments, async (steps) => {
      const { id, turn } = await atA("WORKING");
      const moved = lab.b.client.send("more", { taskId: id, wait: false });
      let said = 0;
      for (const { chunks, turns } of steps) {
        for (let i = 0; i < chunks; i++) turn.chunk(`${said++};`);
        // Turns of the event loop, in which both servers work.
        for (let i = 0; i < turns; i++) await new Promise(setImmediate);
      }
      await moved;
      await lab.puppet.turn();
      turn.chunk("last");
      turn.status("COMPLETED");
      expect(await outcomeOf(both(), id)).toBe("COMPLETED");
      const expected = `${Array.from({ length: said }, (_, i) => `${i};`).join("")}last`;
      for (const client of both()) expect(textOf(await client.a2a.getTask({ id }))).toBe(expected);
    }),
    { numRuns: 15 },
  );
});

test("an agent that was registered at A a moment ago is known at B", async () => {
  // B looks at all agents, and holds what it saw for a while.
  await lab.b.client.a2a.listTasks({ tenant: "a.puppet" });
  for (let n = 0; n < 3; n++) {
    const agent = `new-${n}`;
    await lab.a.client.registry.registerAgent({ agentId: agent, source: { case: "card", value: lab.puppet.card } });
    const answer = lab.b.client.send("begin", { agent });
    (await lab.puppet.turn()).name("COMPLETED");
    expect(statusOf(asTask(await answer))).toBe("COMPLETED");
  }
});
