/** What becomes of a task whose approval was given, or was not. */
import { describe, expect, it } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalState } from "../../gen/signalbox/v1/approval_pb.ts";
import { awaitedApproval } from "../../src/domain/approval.ts";
import { copyImage, stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import { createApprovals } from "../../src/services/approvals/approvals.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createApprovalRepository } from "../../src/store/approval-repository.ts";
import { asked, boss, saying, type terms } from "./approval-requests.ts";
import { isNamed, type LabReplica, openLab, workingAgent } from "./engine-lab.ts";

const system = systemRuntime();
const { EXPIRED, WITHDRAWN } = ApprovalState;

describe("a task that is approved", () => {
  const waits = (overrides: Parameters<typeof terms>[0] = {}) => ({ approval: asked(overrides) });

  it("is brought to its agent once, in its first attempt, by whatever replica", async () => {
    const heard: string[] = [];
    const puppet = workingAgent();
    const start = await openLab();
    const client = {
      ...puppet,
      sendStream: (...call: Parameters<typeof puppet.sendStream>) => {
        heard.push(call[0].messageId);
        return puppet.sendStream(...call);
      },
    };
    const [a, b] = [await start(client), await start(client)];
    const image = await a.begin("default", waits());
    expect(await b.claim()).toBe(0);
    const approvalId = awaitedApproval(image)!;
    const approvals = createApprovals({
      repository: createApprovalRepository(a.db),
      store: a.store,
      waiting: a.dispatcher.waiting,
      hub: { announceWork() {} },
      runtime: system,
      obstacle: async () => undefined,
      onOutcome() {},
    });
    await approvals.answer(boss, image, saying({ approvalId, decision: "APPROVE" }));
    expect(heard).toEqual([]);
    expect((await Promise.all([a.claim(), b.claim()])).reduce((x, y) => x + y)).toBe(1);
    const { header, task } = await b.when(image, isNamed);
    expect(header.attempt).toBe(1);
    expect(heard).toEqual([task.history[0]!.messageId]);
    await b.cancel(await b.load(image));
    expect(stateOf(await a.load(image))).toBe(TaskState.CANCELED);
  });

  it("is rejected when its time is up, and nobody asks its agent", async () => {
    const start = await openLab();
    const refuse = () => expect.unreachable("the agent is asked");
    const a = await start(workingAgent({ sendStream: refuse, cancel: refuse, get: refuse }));
    const image = await a.begin("default", waits({ expiresMs: 0 }));
    await expect.poll(() => a.claim()).toBe(1);
    const { task } = await a.when(image, (now) => stateOf(now) === TaskState.REJECTED);
    expect(task.status?.message?.parts[0]?.content.value).toBe("Nobody approved this task in time.");
    const stored = await a.store.load("default", image.header.taskId);
    expect(stored!.updates.slice(1).map(({ cause }) => cause)).toEqual([
      "waits for its approval",
      "nobody decided about its approval in time",
      "its approval expired",
    ]);
    const approval = await createApprovalRepository(a.db).find("default", awaitedApproval(image)!);
    expect(approval?.approval.state).toBe(EXPIRED);
  });

  it.each([
    ["cancels it", (a: LabReplica, image: TaskImage) => a.cancel(image)],
    [
      "cancels it when its agent has left",
      ({ dispatcher }: LabReplica, image: TaskImage) =>
        dispatcher.end(image, TaskState.CANCELED, "It has left.", "canceled", { principal: "client" }),
    ],
  ])("is withdrawn with its approval when its client %s, which is counted once", async (_, cancel) => {
    const outcomes: string[] = [];
    const start = await openLab();
    const refuse = () => expect.unreachable("the agent is asked");
    const client = workingAgent({ sendStream: refuse, cancel: refuse, get: refuse });
    const a = await start(client, { onApproval: (outcome) => outcomes.push(outcome) });
    const image = await a.begin("default", waits());
    const approvalId = awaitedApproval(image)!;
    await cancel(a, copyImage(image));
    expect(stateOf(await a.load(image))).toBe(TaskState.CANCELED);
    await cancel(a, image).catch(() => {});
    const approval = await createApprovalRepository(a.db).find("default", approvalId);
    expect(approval?.approval.state).toBe(WITHDRAWN);
    expect(outcomes).toEqual(["requested", "withdrawn"]);
  });
});
