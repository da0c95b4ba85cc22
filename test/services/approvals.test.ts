/** Tasks that wait for their approval: whatever decides, cancels or outlasts them at the same moment, there is one outcome. */
import { create, toJson } from "@bufbuild/protobuf";
import { timestampFromDate, ValueSchema } from "@bufbuild/protobuf/wkt";
import { beforeEach, describe, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalState, ApprovalVerdict } from "../../gen/signalbox/v1/approval_pb.ts";
import { statusUpdate } from "../../src/domain/agent-report.ts";
import { awaitedApproval } from "../../src/domain/approval.ts";
import { copyImage, foldTask, stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type Approvals, createApprovals } from "../../src/services/approvals/approvals.ts";
import { createWaitingTasks, type WaitingTasks } from "../../src/services/approvals/waiting-tasks.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createTaskWriter } from "../../src/services/task-writer.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { type ApprovalRepository, createApprovalRepository } from "../../src/store/approval-repository.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createTaskRemoval } from "../../src/store/task-removal.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { emptyTables, expectWholeLogs, raw, taskRows } from "../store/tables.ts";
import { asked, boss, contextOf, MINUTE_MS, saying, type terms } from "./approval-requests.ts";
import { agent, never } from "./engine-lab.ts";

const system = systemRuntime();
const { PENDING, APPROVED, REJECTED, EXPIRED, WITHDRAWN } = ApprovalState;

describeEachBackend("approvals", (context) => {
  interface Side {
    readonly waiting: WaitingTasks;
    readonly approvals: Approvals;
    begin(overrides?: Parameters<typeof terms>[0], maxPending?: number): Promise<TaskImage>;
    cancel(image: TaskImage): Promise<unknown>;
    load(image: TaskImage): Promise<TaskImage>;
  }

  let repository: ApprovalRepository;
  let obstacle: string | undefined;
  let outcomes: string[];
  let sides: [Side, Side];

  async function side(runtime: Runtime = system): Promise<Side> {
    const replica = await registerReplica(context.db);
    const hub = createUpdateHub();
    const store = createTaskStore(context.db, { maxWaiting: 1_000, replicaId: () => replica });
    const onOutcome = (outcome: string) => void outcomes.push(outcome);
    const writing = { store, hub, runtime, gatherMs: 0, inputTimeoutMs: MINUTE_MS, replicaId: () => replica };
    const approvals = { pending: repository.pending, maxPending: 1_000, onOutcome };
    const runners = { stopping: false, inBackground() {}, endUnacknowledged: async () => {} };
    const waiting = createWaitingTasks({ ...writing, approvals }, runners);
    const load = async ({ header: { workspaceId, taskId } }: TaskImage) => {
      const stored = await store.load(workspaceId, taskId);
      return foldTask(stored!.header, stored!.updates);
    };
    return {
      waiting,
      load,
      approvals: createApprovals({
        repository,
        store,
        waiting,
        hub,
        runtime,
        obstacle: async () => obstacle,
        onOutcome,
      }),
      begin(overrides, maxPending = 1_000) {
        const few = createWaitingTasks({ ...writing, approvals: { ...approvals, maxPending } }, runners);
        const { fence, leaseOwner, attempt, delivery, ...request } = headerOf({ createdAt: runtime.now() });
        const { taskId, contextId } = request;
        const message = create(MessageSchema, { messageId: "1", role: Role.USER, taskId, contextId });
        return few.begin(
          request,
          { agent, message, delivery, principal: "anonymous", log: silent },
          asked(overrides),
          {},
        );
      },
      cancel(image) {
        const canceled = ({ header }: TaskImage) => [
          statusUpdate(header, { state: TaskState.CANCELED, timestamp: timestampFromDate(runtime.now()) }, "canceled"),
        ];
        return createTaskWriter({ ...writing, approvals }, image).append(canceled, { take: true }, never);
      },
    };
  }

  beforeEach(async () => {
    await emptyTables(context.db);
    await raw(context.db, "truncate approvals");
    repository = createApprovalRepository(context.db);
    [obstacle, outcomes] = [undefined, []];
    sides = [await side(), await side()];
  });

  const pendingOf = (image: TaskImage): string => awaitedApproval(image)!;
  const decide = ({ approvals }: Side, approvalId: string, verdict: ApprovalVerdict, by = boss) =>
    approvals.decide(by, { $typeName: "signalbox.v1.DecideApprovalRequest", approvalId, verdict, comment: "well" });

  it("are stored with their tasks, which wait for nobody but who decides", async () => {
    const image = await sides[0].begin();
    const { taskId } = image.header;
    expect(await sides[1].load(image)).toEqual(image);
    expect(stateOf(image)).toBe(TaskState.INPUT_REQUIRED);
    const [text, data] = image.task.status!.message!.parts;
    expect(text!.content.value).toMatch(
      /^This task waits to be approved: rules\[3\] \(Payments are looked at first\)\./,
    );
    expect(toJson(ValueSchema, data!.content.value as never)).toEqual({
      approvalId: pendingOf(image),
      decisions: ["APPROVE", "REJECT"],
      rule: "rules[3]",
      description: "Payments are looked at first",
      expireTime: expect.stringMatching(/Z$/),
    });
    const row = (await taskRows(context.db)).get(taskId);
    expect(row).toMatchObject({ a2aState: 6, seq: 2, fence: 1, attempt: 0, owner: undefined, waits: "later" });
    const approval = await sides[1].approvals.get(boss, pendingOf(image));
    expect(approval).toMatchObject({
      taskId,
      state: PENDING,
      agentId: "agent",
      principalId: "client",
      rule: "rules[3]",
    });
    expect(approval).toMatchObject({ policyVersion: 7, decidedBy: "", comment: "" });
    expect(approval.decideTime).toBeUndefined();
    await expectWholeLogs(context.db);
  });

  it("let no task go on without them, whoever writes", async () => {
    const { header } = await sides[0].begin();
    for (const [state, owner] of [
      [EngineState.QUEUED, null],
      [EngineState.WORKING, "r"],
    ]) {
      const goesOn = raw(
        context.db,
        "update tasks set state = $2, a2a_state = 2, lease_owner = $3, last_seq = last_seq + 1 where task_id = $1",
        [header.taskId, state, owner],
      );
      await expect(goesOn).rejects.toMatchObject({ code: "23514", constraint: "tasks_approved" });
    }
  });

  const approve = (by: Side, image: TaskImage) => decide(by, pendingOf(image), ApprovalVerdict.APPROVE);
  const reject = (by: Side, image: TaskImage) => decide(by, pendingOf(image), ApprovalVerdict.REJECT);
  // Each begins with the task as it was at first: whoever writes moves its own image on.
  const ACTS = {
    approve,
    reject,
    async answer({ approvals }: Side, image: TaskImage) {
      return approvals.answer(boss, image, saying({ approvalId: pendingOf(image), decision: "APPROVE" }));
    },
    expire: ({ waiting }: Side, image: TaskImage) => waiting.expire(copyImage(image), pendingOf(image), never),
    cancel: ({ cancel }: Side, image: TaskImage) => cancel(copyImage(image)),
    /** A replica that finds the task overdue, and dies before it has ended it. */
    async claim(_: Side, { header }: TaskImage) {
      const replica = await registerReplica(context.db);
      await raw(context.db, "update tasks set wake_at = now() where task_id = $1 and state = 6", [header.taskId]);
      return createLeaseRepository(context.db).claim(replica, 1, { running: new Map(), last: "" });
    },
  };
  type Act = keyof typeof ACTS;
  const acts = Object.keys(ACTS) as Act[];
  const pairs = acts.flatMap((one) => acts.map((other) => [one, other] as const));

  /** What the task and its approval came to, which belong together. */
  async function outcomeOf(image: TaskImage): Promise<string> {
    const { state } = await sides[0].approvals.get(boss, pendingOf(image));
    const { state: at, seq, task } = await sides[0].load(image);
    const ends: Record<number, number[]> = {
      [PENDING]: [EngineState.INPUT_REQUIRED],
      [APPROVED]: [EngineState.QUEUED, EngineState.ASSIGNED, EngineState.CANCELED],
      [REJECTED]: [EngineState.REJECTED],
      [EXPIRED]: [EngineState.REJECTED],
      [WITHDRAWN]: [EngineState.CANCELED],
    };
    expect(ends[state]).toContain(at);
    expect(task.history.filter(({ role }) => role === Role.USER)).toHaveLength(1);
    return `${state} ${at} ${seq}`;
  }

  const exceptDecided = (act: Promise<unknown>) =>
    act.catch((error) => expect(error).toMatchObject({ reason: "APPROVAL_DECIDED" }));

  it.each(acts)("that %s has settled stay as they are, whatever comes next", async (first) => {
    for (const next of acts) {
      const image = await sides[0].begin();
      await ACTS[first](sides[0], image);
      const settled = await outcomeOf(image);
      await exceptDecided(ACTS[next](sides[1], image));
      // What is approved is a task like any: it may be canceled. What was only claimed, still waits.
      const mayMove = first === "claim" || (["approve", "answer"].includes(first) && next === "cancel");
      if (mayMove) await outcomeOf(image);
      else expect(await outcomeOf(image), next).toBe(settled);
    }
    await expectWholeLogs(context.db);
  });

  it("have one outcome, whatever happens to them at once", async () => {
    const tasks = await Promise.all(pairs.map(async ([one, other]) => ({ one, other, image: await sides[0].begin() })));
    outcomes = [];
    await Promise.all(
      tasks.flatMap(({ one, other, image }) => [
        exceptDecided(ACTS[one](sides[0], image)),
        exceptDecided(ACTS[other](sides[1], image)),
      ]),
    );
    const ended = new Map<number, number>();
    for (const { image } of tasks) {
      const state = Number.parseInt(await outcomeOf(image), 10);
      ended.set(state, (ended.get(state) ?? 0) + 1);
    }
    // Each is told of once, however many have tried.
    const told = (kind: string) => outcomes.filter((outcome) => outcome === kind).length;
    const ofEach = Object.entries({ approved: APPROVED, rejected: REJECTED, expired: EXPIRED, withdrawn: WITHDRAWN });
    for (const [kind, state] of ofEach) expect([kind, told(kind)]).toEqual([kind, ended.get(state) ?? 0]);
    await expectWholeLogs(context.db);
  });

  it("say the same to who decides the same once more, and refuse the opposite", async () => {
    const image = await sides[0].begin();
    const decided = await approve(sides[0], image);
    expect(decided).toMatchObject({ state: APPROVED, decidedBy: "boss", comment: "well" });
    expect(await approve(sides[1], image)).toEqual(decided);
    await expect(reject(sides[1], image)).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "APPROVAL_DECIDED",
      metadata: { state: "APPROVED" },
    });
    const now = await sides[0].load(image);
    expect([now.state, stateOf(now)]).toEqual([EngineState.QUEUED, TaskState.WORKING]);
    expect(outcomes).toEqual(["requested", "approved"]);
  });

  it("end their tasks when they are rejected, with the comment", async () => {
    const image = await sides[0].begin();
    await reject(sides[1], image);
    const { task } = await sides[0].load(image);
    expect(task.status).toMatchObject({
      state: TaskState.REJECTED,
      message: { parts: [{ content: { value: "This task was not approved: well" } }] },
    });
  });

  it("count no longer when their time is up, though no replica has noted it", async () => {
    const image = await sides[0].begin({ expiresMs: 0 });
    await expect(approve(sides[0], image)).rejects.toMatchObject({ metadata: { state: "EXPIRED" } });
    expect(await outcomeOf(image)).toBe(`${EXPIRED} ${EngineState.REJECTED} 3`);
    expect(outcomes).toEqual(["requested", "expired"]);
  });

  it.each([-1, 1])("count until the time of the database, though a server's clock is %i h off", async (hours) => {
    const now = () => new Date(Date.now() + hours * 60 * MINUTE_MS);
    const off = await side({ ...system, now });
    for (const [asks, decides] of [
      [off, sides[0]],
      [sides[0], off],
    ]) {
      expect(await approve(decides!, await asks!.begin())).toMatchObject({ state: APPROVED });
      const late = approve(decides!, await asks!.begin({ expiresMs: 0 }));
      await expect(late).rejects.toMatchObject({ metadata: { state: "EXPIRED" } });
    }
  });

  it("that meet an obstacle end their tasks, and say which", async () => {
    const image = await sides[0].begin();
    obstacle = 'agent "agent" has left.';
    expect(await approve(sides[0], image)).toMatchObject({ state: APPROVED });
    const { task } = await sides[0].load(image);
    expect(task.status?.state).toBe(TaskState.REJECTED);
    expect(task.status?.message?.parts[0]?.content.value).toBe(
      'Approved, but it cannot begin: agent "agent" has left.',
    );
  });

  describe("are decided by who may", () => {
    it.each([
      ["nobody without the scope", {}, contextOf("boss", { scopes: new Set(["tasks.write"]) }), "SCOPE_MISSING"],
      ["not by who asked", {}, contextOf("client"), "NOT_AN_APPROVER"],
      ["by who asked, where that is allowed", { self: true }, contextOf("client"), undefined],
      ["not by who is not named", { approvers: ["chief"] }, boss, "NOT_AN_APPROVER"],
      ["by who is named", { approvers: ["chief", "boss"] }, boss, undefined],
      ["not by who is on one of two lists", { approvers: ["boss"], also: [["chief"]] }, boss, "NOT_AN_APPROVER"],
      [
        "by a role that is named",
        { approvers: ["chief"] },
        contextOf("boss", { roles: new Set(["chief"]) }),
        undefined,
      ],
      [
        "by a role that is named as one",
        { approvers: ["role:chief"] },
        contextOf("boss", { roles: new Set(["chief"]) }),
        undefined,
      ],
      ["not by a principal that is called as a role", { approvers: ["role:boss"] }, boss, "NOT_AN_APPROVER"],
      ["by anybody who is not known", {}, contextOf("client", { authentication: "anonymous" }), undefined],
    ])("%s", async (_, overrides, by, reason) => {
      const image = await sides[0].begin(overrides);
      const decided = decide(sides[1], pendingOf(image), ApprovalVerdict.APPROVE, by);
      if (reason === undefined) await expect(decided).resolves.toMatchObject({ state: APPROVED });
      else await expect(decided).rejects.toMatchObject({ code: "PERMISSION_DENIED", reason });
    });
  });

  it("are decided by a message, and let no other through", async () => {
    const image = await sides[0].begin();
    const approvalId = pendingOf(image);
    const { approvals } = sides[1];
    const text = create(MessageSchema, { parts: [{ content: { case: "text", value: "go on!" } }] });
    for (const other of [text, saying({ approvalId: "other", decision: "APPROVE" })]) {
      const refused = approvals.answer(boss, image, other);
      await expect(refused).rejects.toMatchObject({
        code: "FAILED_PRECONDITION",
        reason: "APPROVAL_REQUIRED",
        metadata: { approvalId, decisions: "APPROVE,REJECT" },
      });
      await expect(refused).rejects.toThrow(`signalbox approvals approve ${approvalId}`);
    }
    for (const wrong of [{ decision: "YES" }, { decision: "REJECT", comment: 7 }, { comment: "x".repeat(1025) }]) {
      await expect(approvals.answer(boss, image, saying({ approvalId, ...wrong }))).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
      });
    }
    const yes = saying({ approvalId, decision: "APPROVE", comment: "fine" });
    const decided = await approvals.answer(boss, image, yes);
    expect(decided?.task.status?.message?.parts[0]?.content.value).toBe("Approved: fine");
    // Once more is no message for the agent; anything else is.
    expect(await approvals.answer(boss, decided!, yes)).toMatchObject({ seq: decided!.seq });
    expect(await approvals.answer(boss, decided!, text)).toBeUndefined();
    for (const other of ["of-another", "\0", "x".repeat(100_000)]) {
      const toAgent = approvals.answer(boss, decided!, saying({ approvalId: other, decision: "APPROVE" }));
      expect(await toAgent).toBeUndefined();
    }
  });

  it("are listed by state and task, the latest first, by pages, in their workspace alone", async () => {
    const images = [];
    for (let i = 0; i < 5; i++) images.push(await sides[i % 2]!.begin());
    const ids = images.map(pendingOf).reverse();
    await approve(sides[0], images[4]!);
    const { approvals } = sides[1];
    const list = (more: object, by = boss) =>
      approvals.list(by, {
        $typeName: "signalbox.v1.ListApprovalsRequest",
        state: ApprovalState.UNSPECIFIED,
        taskId: "",
        pageSize: 0,
        pageToken: "",
        ...more,
      });
    const idsOf = async (more: object) => (await list(more)).approvals.map(({ approvalId }) => approvalId);
    expect(await idsOf({})).toEqual(ids);
    expect(await idsOf({ state: PENDING })).toEqual(ids.slice(1));
    expect(await idsOf({ taskId: images[2]!.header.taskId })).toEqual([ids[2]]);
    const page = await list({ pageSize: 3 });
    expect(page.approvals).toHaveLength(3);
    expect(await idsOf({ pageSize: 3, pageToken: page.nextPageToken })).toEqual(ids.slice(3));
    const elsewhere = { ...boss, workspaceId: "other" };
    expect((await list({}, elsewhere)).approvals).toEqual([]);
    await expect(approvals.get(elsewhere, ids[0]!)).rejects.toMatchObject({ reason: "APPROVAL_NOT_FOUND" });
    await expect(list({ state: 9 })).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
    await expect(sides[0].begin({}, 4)).rejects.toMatchObject({ code: "RESOURCE_EXHAUSTED" });
  });

  it("go with their tasks", async () => {
    const image = await sides[0].begin();
    await reject(sides[0], image);
    expect(await createTaskRemoval(context.db).remove("default", image.header.taskId)).toBe(true);
    await expect(approve(sides[0], image)).rejects.toMatchObject({ reason: "APPROVAL_NOT_FOUND" });
  });
});
