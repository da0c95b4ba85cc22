/** A task that has to wait, and begins with a webhook: nobody takes it before the webhook is stored. */
import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { MessageSchema, Role, TaskPushNotificationConfigSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateOf } from "../../src/domain/task-log.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAgentQueueRepository } from "../../src/store/agent-queue-repository.ts";
import type { Database } from "../../src/store/database.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createPushConfigRepository, type HeldFor } from "../../src/store/push-config-repository.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { silent } from "../store/backends.ts";
import { agent, openLab, unlimited, workingAgent } from "./engine-lab.ts";

const crowded = { ...unlimited, permits: { isNeeded: () => true, force: () => undefined } };
const LATER = 3_600_000;

it.each<["replica" | "at-agent", boolean]>([
  ["replica", true],
  ["replica", false],
  ["at-agent", true],
  ["at-agent", false],
])("waiting for %s; the webhook is stored: %s", async (waitsFor, succeeds) => {
  let db!: Database;
  const lab = await openLab();
  const replica = await lab(workingAgent(), {
    wrap: (raw) => {
      db = raw;
      return raw;
    },
    ...(waitsFor === "replica" ? { maxRunning: 0 } : { places: crowded }),
  });
  const claim = async () => {
    const due = await createLeaseRepository(db).claim(replica.id(), 10, { running: new Map(), last: "" });
    const rooms = [{ workspaceId: "default", agentId: agent.agentId, units: 10, capabilities: new Map() }];
    const atAgent = await createAgentQueueRepository(db).claim(replica.id(), rooms);
    return [due, atAgent].map((tasks) => (Array.isArray(tasks) ? tasks.length : -1));
  };
  const { taskId } = headerOf();
  const request = headerOf({
    taskId,
    agentId: agent.agentId,
    leaseOwner: undefined,
    deadlineAt: new Date(Date.now() + LATER),
    createdAt: systemRuntime().now(),
  });
  const message = create(MessageSchema, { messageId: "m", role: Role.USER, taskId, contextId: request.contextId });
  const begun = replica.dispatcher.begin(
    request,
    { agent, message, delivery: {}, principal: "tester", log: silent },
    {
      async beforeStart(held: HeldFor | undefined) {
        expect(held).toBe(waitsFor);
        expect(await claim()).toEqual([0, 0]);
        if (!succeeds) throw new Error("the webhook is not stored");
        const config = create(TaskPushNotificationConfigSchema, { taskId, id: "c", url: "http://x.example" });
        const options = { now: new Date(), most: 1, from: "start" as const, release: held };
        expect(await createPushConfigRepository(db).put(request.workspaceId, config, options)).toBe(true);
      },
    },
  );
  if (succeeds) {
    await begun;
    expect(await claim()).toEqual(waitsFor === "replica" ? [1, 0] : [0, 1]);
  } else {
    await expect(begun).rejects.toThrow("not stored");
    const image = { header: request } as Awaited<typeof begun>;
    await expect.poll(async () => stateOf(await replica.load(image))).toBe(TaskState.FAILED);
    expect(await claim()).toEqual([0, 0]);
  }
});
