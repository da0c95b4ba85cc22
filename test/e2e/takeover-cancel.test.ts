/** Two servers on one PostgreSQL: a task is canceled at B, whatever A is doing with it, and everybody sees one outcome. */
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { cardOf } from "../agents/rogue-agent.ts";
import { asTask, failureOf, statusOf, textOf } from "../fault/said.ts";
import { stablePort } from "../setup/stable-port.ts";
import { journalOf, linesOf, outcomeOf, pathOf, reaches, restOf, standOf } from "./journal.ts";
import { startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

const NOT_BEGUN = { code: "Unavailable", reason: "TASK_NOT_BEGUN", retries: true };
const NOT_CANCELABLE = { code: "FailedPrecondition", reason: "TASK_NOT_CANCELABLE" };

describe("a task that A carries", () => {
  let lab: TwoReplicas;
  beforeAll(async () => {
    lab = await startTwoReplicas({ answersCancels: false });
    return () => lab.close();
  });
  const both = () => [lab.a.client, lab.b.client];
  const cancelAt = ({ client }: TwoReplicas["a"], id: string) => client.a2a.cancelTask({ id });

  async function atA(state: "WORKING" | "INPUT_REQUIRED" | "AUTH_REQUIRED" = "WORKING") {
    const { id } = asTask(await lab.a.client.send("begin", { wait: false }));
    const turn = await lab.puppet.turn();
    turn.name();
    if (state !== "WORKING") turn.status(state, "Who?");
    await reaches(lab.b.client, id, state);
    return { id, turn };
  }

  test.each(["WORKING", "AUTH_REQUIRED", "INPUT_REQUIRED"] as const)("%s: B tells the agent", async (state) => {
    const { id, turn } = await atA(state);
    const stream = linesOf(lab.a.client.watch(id));
    await stream.next();
    const canceled = cancelAt(lab.b, id);
    const told = await lab.puppet.canceled();
    expect(told.taskId).toBe(turn.taskId);
    // A hears that the task is B's now, and hangs up.
    if (state !== "INPUT_REQUIRED") expect(await lab.puppet.left()).toBe(turn.taskId);
    told.obey();
    expect(statusOf(await canceled)).toBe("CANCELED");
    expect(await restOf(stream)).toEqual(["CANCELED", "end"]);
    expect(await outcomeOf(both(), id)).toBe("CANCELED");
    const steps = await journalOf(lab.b.client, id);
    expect(steps.at(-1)).toMatchObject({ state: "CANCELED", by: lab.b.id });
    if (state === "INPUT_REQUIRED") return;
    expect(steps.at(-2)).toMatchObject({ state, cause: "its client asks to cancel it", by: lab.b.id, token: 2 });
  });

  test("not yet named: it is CANCELED at once, and A tells the agent when it names it", async () => {
    const { id } = asTask(await lab.a.client.send("begin", { wait: false }));
    const turn = await lab.puppet.turn();
    expect(statusOf(await cancelAt(lab.b, id))).toBe("CANCELED");
    expect(await outcomeOf(both(), id)).toBe("CANCELED");
    turn.name();
    const told = await lab.puppet.canceled();
    expect(told.taskId).toBe(turn.taskId);
    told.obey();
    expect(await pathOf(lab.a.client, id)).toEqual(["ASSIGNED 1", "CANCELED 1"]);
  });

  test("an agent that refuses keeps the task, and B goes on with it", async () => {
    const { id, turn } = await atA();
    const refused = failureOf(cancelAt(lab.b, id));
    const told = await lab.puppet.canceled();
    expect(await lab.puppet.left()).toBe(turn.taskId);
    told.refuse();
    expect(await refused).toMatchObject(NOT_CANCELABLE);
    turn.chunk("all the same");
    turn.status("COMPLETED", "Done.");
    expect(await outcomeOf(both(), id)).toBe("COMPLETED: Done.");
    expect(textOf(await lab.a.client.a2a.getTask({ id }))).toBe("all the same");
    expect((await journalOf(lab.a.client, id)).at(-1)).toMatchObject({ by: lab.b.id });
  });

  test("an agent that takes its time is followed from B until it has", async () => {
    const { id, turn } = await atA();
    const shown = cancelAt(lab.b, id);
    (await lab.puppet.canceled()).show();
    expect(statusOf(await shown)).toBe("WORKING");
    turn.status("CANCELED", "At last.");
    expect(await outcomeOf(both(), id)).toBe("CANCELED: At last.");
  });

  test("an agent that is done when it is told has done it", async () => {
    const { id, turn } = await atA();
    const late = failureOf(cancelAt(lab.b, id));
    const told = await lab.puppet.canceled();
    turn.status("COMPLETED", "First.");
    told.obey();
    expect(await late).toMatchObject(NOT_CANCELABLE);
    expect(await outcomeOf(both(), id)).toBe("COMPLETED: First.");
  });
});

describe("whatever crosses", () => {
  let lab: TwoReplicas;
  beforeAll(async () => {
    lab = await startTwoReplicas();
    return () => lab.close();
  });

  /** Turns of the event loop, in which both servers and the agent work, before something happens. */
  const moment = fc.nat({ max: 60 });
  const atMoment = async <T>(turns: number, what: () => T): Promise<Awaited<T>> => {
    for (let i = 0; i < turns; i++) await new Promise(setImmediate);
    return await what();
  };

  test("two cancels, a message and the end have one outcome, which the agent knows too", async () => {
    const seen = new Map<string, number>();
    const moments = fc.record({ name: moment, end: moment, a: moment, b: moment, message: moment });
    await fc.assert(
      fc.asyncProperty(moments, fc.boolean(), async (at, named) => {
        const { id } = asTask(await lab.a.client.send("begin", { wait: false }));
        const turn = await lab.puppet.turn();
        const stream = linesOf(lab.a.client.watch(id));
        if (named) {
          turn.name();
          await reaches(lab.b.client, id, "WORKING");
        }
        const cancels = [lab.a, lab.b].map(({ client }, i) =>
          atMoment(at[i === 0 ? "a" : "b"], () => client.a2a.cancelTask({ id }).then(statusOf, (error) => error)),
        );
        const message = atMoment(at.message, () => lab.b.client.send("more", { taskId: id, wait: false }));
        await Promise.all([
          ...(named ? [] : [atMoment(at.name, () => turn.name())]),
          atMoment(at.name + at.end, () => turn.status("COMPLETED")),
          message.then(
            () => lab.puppet.turn(),
            () => {},
          ),
        ]);
        const outcome = await outcomeOf([lab.a.client, lab.b.client], id);
        expect((await restOf(stream)).slice(-2).join().replace("task ", "")).toBe(`${outcome},end`);
        expect(outcome).toMatch(/^(CANCELED|COMPLETED)$/);
        for (const answer of await Promise.all(cancels)) {
          if (typeof answer === "string") expect(answer).toBe(outcome);
          else expect(await failureOf(Promise.reject(answer))).toMatchObject(NOT_CANCELABLE);
        }
        // Of a task that was canceled before it had a name the agent is told later, or has ended it by then.
        if (named) expect(lab.puppet.stateOf(turn.taskId)).toBe(outcome);
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
      }),
      { numRuns: 30 },
    );
    console.log(`cancel against completion: ${JSON.stringify(Object.fromEntries(seen))}`);
  }, 60_000);
});

describe("a task that waits", () => {
  let lab: TwoReplicas;
  beforeAll(async () => {
    // An hour between two attempts.
    const flags = { "limits.running-tasks": "1", "task.retry-min-ms": "3600000", "task.retry-max-ms": "3600000" };
    lab = await startTwoReplicas({ flags });
    return () => lab.close();
  });

  test("in the queue: it takes no message, is CANCELED at once, and the agent never hears of it", async () => {
    const busy = [];
    for (const { client } of [lab.a, lab.b]) {
      const { id } = asTask(await client.send("busy", { wait: false }));
      const turn = await lab.puppet.turn();
      turn.name();
      busy.push({ id, turn });
    }
    const { id } = asTask(await lab.a.client.send("waits", { wait: false }));
    expect(await standOf(lab.b.client, id)).toBe("QUEUED");
    expect(await failureOf(lab.b.client.send("more", { taskId: id }))).toMatchObject(NOT_BEGUN);
    expect(statusOf(await lab.b.client.a2a.cancelTask({ id }))).toBe("CANCELED");
    for (const { turn } of busy) turn.status("COMPLETED");
    for (const { id: other } of busy) await lab.b.client.waitFor(other);
    expect(await outcomeOf([lab.a.client, lab.b.client], id)).toBe("CANCELED");
    expect(await pathOf(lab.a.client, id)).toEqual(["QUEUED 0", "CANCELED 0"]);
    expect(lab.puppet.heard).toEqual(["busy", "busy"]);
  });

  test("for its next attempt: it takes no message, and is CANCELED at once", async () => {
    const card = cardOf("JSONRPC", `http://127.0.0.1:${await stablePort()}`);
    await lab.a.client.registry.registerAgent({ agentId: "away", source: { case: "card", value: card } });
    const { id } = asTask(await lab.a.client.send("waits", { agent: "away", wait: false }));
    await lab.a.logged.until("an attempt failed");
    expect(await standOf(lab.b.client, id)).toBe("SCHEDULED");
    expect(await failureOf(lab.b.client.send("more", { taskId: id }))).toMatchObject(NOT_BEGUN);
    expect(statusOf(await lab.b.client.a2a.cancelTask({ id }))).toBe("CANCELED");
    expect(await outcomeOf([lab.a.client, lab.b.client], id)).toBe("CANCELED");
    expect((await pathOf(lab.a.client, id)).slice(-3)).toEqual(["ASSIGNED 1", "SCHEDULED 1", "CANCELED 1"]);
  });
});
