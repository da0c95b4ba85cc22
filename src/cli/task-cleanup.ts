/** `signalbox task delete` and `task cleanup`: tasks that have ended are removed. */
import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { CleanupTasksResponseSchema } from "../../gen/signalbox/v1/task_pb.ts";
import { parseDuration } from "./duration.ts";
import { json } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface CleanupFlags extends ServerOptions {
  olderThan: number;
}

export function addTaskCleanupCommands(task: Command, cli: Cli): void {
  const { io } = cli;
  const remove = task
    .command("delete <id...>")
    .description("remove tasks that have ended, with their logs and artifacts");
  withServer(remove).action((taskIds: string[], options: ServerOptions) =>
    callServer(cli, options, async ({ tasks }) => {
      for (const taskId of taskIds) {
        await tasks.deleteTask({ taskId });
        if (!options.json) io.out(`Task ${taskId} is removed.\n`);
      }
      if (options.json) io.out(json({}));
    }),
  );

  const cleanup = task
    .command("cleanup")
    .description("remove all tasks that ended long ago")
    .option("--older-than <duration>", "how long ago, as 90s, 15m, 1h or 7d", parseDuration, 3_600_000);
  withServer(cleanup).action((flags: CleanupFlags) =>
    callServer(cli, flags, async ({ tasks }) => {
      const answer = await tasks.cleanupTasks({ olderThanSeconds: BigInt(Math.ceil(flags.olderThan / 1000)) });
      const { deletedCount } = answer;
      if (flags.json) io.out(json(toJson(CleanupTasksResponseSchema, answer, { alwaysEmitImplicit: true })));
      else io.out(`${deletedCount} ${deletedCount === 1n ? "task is" : "tasks are"} removed.\n`);
    }),
  );
}
