/** What an agent showed of its question, when the client has answered meanwhile. */
import { expect, it } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import { isNamed, openLab, said, taskIn, workingAgent } from "./engine-lab.ts";

const { AUTH_REQUIRED, COMPLETED } = TaskState;
const isAsked = (image: TaskImage) => isNamed(image) && stateOf(image) === AUTH_REQUIRED;
const isDone = (image: TaskImage) => stateOf(image) === COMPLETED;

it("does not ask again when the agent shows its question in the moment in which the client's answer is stored", async () => {
  const [looked, shown] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let state: TaskState = AUTH_REQUIRED;
  const client = workingAgent({
    streaming: false,
    async get() {
      const asItStands = taskIn("theirs", state);
      looked.resolve();
      await shown.promise;
      return asItStands;
    },
    async send({ taskId }) {
      if (taskId) state = COMPLETED;
      return said(taskIn("theirs", state));
    },
  });
  let answers = false;
  const replica = await (await openLab())(client, {
    wrap: (db) => ({
      ...db,
      async query(statement, values) {
        if (answers && statement.name.startsWith("task-append")) {
          answers = false;
          shown.resolve();
          await new Promise(setImmediate);
        }
        return db.query(statement, values);
      },
    }),
  });
  const task = await replica.when(await replica.begin(), isAsked);
  await looked.promise;
  answers = true;
  await replica.tell(task);
  await replica.when(task, isDone);
  const { updates } = (await replica.store.load("default", task.header.taskId))!;
  const questions = updates.filter(
    ({ body: { payload } }) => payload.case === "statusUpdate" && payload.value.status?.state === AUTH_REQUIRED,
  );
  expect(questions).toHaveLength(1);
});
