/** Two servers on one PostgreSQL, one of which dies, is cut off, or stops in order: what becomes of its tasks. */
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { asTask, lineOf, statusOf, textOf } from "../fault/said.ts";
import { startServer } from "../fault/server-process.ts";
import { journalOf, linesOf, outcomeOf, pathOf, reaches, restOf, standOf } from "./journal.ts";
import { startTwoReplicas, type TwoReplicas, type TwoReplicasOptions } from "./two-replicas.ts";

/** Nothing that waits for a lease to run out comes to its end in such a test. */
const NO_LEASE_ENDS = { "lease.ms": "3600000" };
const UNCONFIRMED = "FAILED: The router stopped before the agent confirmed the task.";

let lab: TwoReplicas;
const start = async (options: TwoReplicasOptions) => {
  lab = await startTwoReplicas(options);
};
afterEach(() => lab.close());
const both = () => [lab.a.client, lab.b.client];

async function beginAtA(agent = "puppet") {
  const { id } = asTask(await lab.a.client.send("begin", { agent, wait: false }));
  return { id, turn: await lab.puppet.turn() };
}

async function workingAtA() {
  const begun = await beginAtA();
  begun.turn.name();
  await reaches(lab.a.client, begun.id, "WORKING");
  return begun;
}

/** The same agent, declared safe to repeat. */
const registerSafe = () =>
  lab.a.client.registry.registerAgent({
    agentId: "safe",
    source: { case: "card", value: lab.puppet.card },
    safeToRepeat: true,
  });

describe("A is cut off from the database for longer than its lease", () => {
  test("B goes on with what the agent has named, A writes nothing more, and its clients see it all", async () => {
    await start({ flags: { "lease.ms": "1000" } });
    const { id, turn } = await workingAtA();
    const stream = linesOf(lab.a.client.watch(id));
    expect(await stream.next()).toBe("task WORKING");
    const blocked = lab.a.client.send("more", { taskId: id });
    await lab.puppet.turn();

    lab.a.wire.sever();
    expect(await lab.puppet.subscribed()).toBe(turn.taskId);
    // Both of them hear it; one may say it.
    turn.chunk("1;");
    turn.chunk("2;");
    turn.status("WORKING", "Nearly.");
    await reaches(lab.b.client, id, "WORKING: Nearly.");
    lab.a.wire.mend();
    await lab.a.logged.until("declared dead by another replica");
    turn.chunk("3;");
    turn.status("COMPLETED", "Done.");

    expect(statusOf(asTask(await blocked))).toBe("COMPLETED: Done.");
    expect(await outcomeOf(both(), id)).toBe("COMPLETED: Done.");
    expect(textOf(await lab.a.client.a2a.getTask({ id }))).toBe("1;2;3;");
    const seen = await restOf(stream);
    expect(seen.slice(-2)).toEqual(["COMPLETED: Done.", "end"]);
    const steps = await journalOf(lab.b.client, id);
    const rescued = steps.findIndex(({ cause }) => cause === `rescued from replica ${lab.a.id}`);
    expect(steps.slice(rescued).map(({ by, token }) => [by, token])).toEqual(
      steps.slice(rescued).map(() => [lab.b.id, 2]),
    );
    // It has joined again: what is sent to it now is its own.
    const next = asTask(await lab.a.client.send("next", { wait: false }));
    const nextTurn = await lab.puppet.turn();
    nextTurn.name();
    nextTurn.status("COMPLETED");
    expect(await outcomeOf(both(), next.id)).toBe("COMPLETED");
    const [accepted] = await journalOf(lab.a.client, next.id);
    expect([lab.a.id, lab.b.id]).not.toContain(accepted!.by);
  });

  test("what the agent has not named fails, or is repeated if that is safe, and is canceled there when it is named", async () => {
    await start({ flags: { "lease.ms": "1000", "task.retry-min-ms": "10" } });
    await registerSafe();
    const unsafe = await beginAtA();
    const safe = await beginAtA("safe");
    lab.a.wire.sever();
    // A hears this and cannot write it down.
    unsafe.turn.name();

    expect(await reaches(lab.b.client, unsafe.id, "FAILED")).toContain(UNCONFIRMED);
    const again = await lab.puppet.turn();
    expect(again.text).toBe("begin");
    again.name();
    again.status("COMPLETED", "The second time.");
    await reaches(lab.b.client, safe.id, "COMPLETED");
    lab.a.wire.mend();
    // A learns that nobody will follow it.
    expect((await lab.puppet.canceled()).taskId).toBe(unsafe.turn.taskId);
    await lab.a.logged.until("declared dead by another replica");
    expect(await outcomeOf(both(), unsafe.id)).toContain(UNCONFIRMED);
    expect(await outcomeOf(both(), safe.id)).toBe("COMPLETED: The second time.");
    expect(await pathOf(lab.b.client, safe.id)).toEqual([
      "ASSIGNED 1",
      "SCHEDULED 1",
      "ASSIGNED 2",
      "WORKING 2",
      "COMPLETED 2",
    ]);
    const steps = await journalOf(lab.b.client, safe.id);
    expect(steps.map(({ cause }) => cause).join("\n")).toContain("the replica that had it is gone");
  });
});

test("A is killed: B goes on with its tasks, and its clients go on at B after their number", async () => {
  await start({ flags: { "lease.ms": "1000" } });
  const killed = await startServer({ "database.url": lab.databaseUrl, "lease.ms": "1000" });
  onTestFinished(() => killed.signal("SIGKILL"));
  const { id } = asTask(await killed.client.send("begin", { wait: false }));
  const turn = await lab.puppet.turn();
  turn.name();
  turn.chunk("1;");
  const seen: string[] = [];
  for await (const item of killed.client.watch(id, { after: 0 })) {
    seen.push(lineOf(item));
    if (seen.at(-1) === "chunk 1;") break;
  }
  killed.signal("SIGKILL");
  await killed.exit;
  expect(await lab.puppet.subscribed()).toBe(turn.taskId);
  turn.chunk("2;");
  turn.status("COMPLETED");
  expect(await outcomeOf(both(), id)).toBe("COMPLETED");
  expect(textOf(await lab.b.client.a2a.getTask({ id }))).toBe("1;2;");
  const last = (await journalOf(lab.b.client, id)).at(-1)!;
  expect([lab.a.id, lab.b.id]).toContain(last.by);
});

describe("A stops in order", () => {
  test("B has its tasks at once, and the waiting ones need nobody", async () => {
    await start({ flags: NO_LEASE_ENDS });
    const working = await workingAtA();
    const asking = await beginAtA();
    asking.turn.name();
    asking.turn.status("INPUT_REQUIRED", "Who?");
    await reaches(lab.b.client, asking.id, "INPUT_REQUIRED");
    const stream = linesOf(lab.a.client.watch(working.id));
    await stream.next();

    const stopped = lab.a.stop();
    expect(await lab.puppet.subscribed()).toBe(working.turn.taskId);
    await stopped;
    expect((await restOf(stream)).at(-1)).toContain("This server is stopping");
    working.turn.status("COMPLETED", "At B.");
    expect(await outcomeOf([lab.b.client], working.id)).toBe("COMPLETED: At B.");
    const [, , rescued] = await journalOf(lab.b.client, working.id);
    expect(rescued).toMatchObject({ cause: `rescued from replica ${lab.a.id}`, by: lab.b.id });

    const answered = lab.b.client.send("me", { taskId: asking.id });
    (await lab.puppet.turn()).status("COMPLETED", "You.");
    expect(statusOf(asTask(await answered))).toBe("COMPLETED: You.");
  });

  test("but not before the agent could name what was just brought to it", async () => {
    // A would wait for longer than the test.
    await start({ flags: { ...NO_LEASE_ENDS, "drain.ms": "600000" } });
    const { id, turn } = await beginAtA();
    const stopped = lab.a.stop();
    await isGone(lab.a.client);
    turn.name();
    await stopped;
    expect(await lab.puppet.subscribed()).toBe(turn.taskId);
    turn.status("COMPLETED", "At B.");
    expect(await outcomeOf([lab.b.client], id)).toBe("COMPLETED: At B.");
    expect(await pathOf(lab.b.client, id)).toEqual(["ASSIGNED 1", "WORKING 1", "COMPLETED 1"]);
  });

  test("and what waited for room at A too", async () => {
    await start({ flags: { ...NO_LEASE_ENDS, "limits.running-tasks": "1" } });
    const busy = await workingAtA();
    const there = asTask(await lab.b.client.send("busy", { wait: false }));
    const turn = await lab.puppet.turn();
    const { id } = asTask(await lab.a.client.send("waits", { wait: false }));
    expect(await standOf(lab.b.client, id)).toBe("QUEUED");
    await lab.a.stop();
    turn.name();
    turn.status("COMPLETED");
    // B has room for one: first comes what has an agent at work, then what waits.
    expect(await lab.puppet.subscribed()).toBe(busy.turn.taskId);
    busy.turn.status("COMPLETED");
    const last = await lab.puppet.turn();
    expect(last.text).toBe("waits");
    last.name();
    last.status("COMPLETED");
    for (const taskId of [busy.id, there.id, id]) expect(await outcomeOf([lab.b.client], taskId)).toBe("COMPLETED");
  });
});

/** Resolves when a server answers no more. */
async function isGone({ a2a }: TwoReplicas["a"]["client"]): Promise<void> {
  try {
    for (;;) await a2a.listTasks({ pageSize: 1 });
  } catch {
    // It has closed its listeners.
  }
}
