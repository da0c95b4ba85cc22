/** `signalbox task events`: what happens to all tasks, as it happens. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Command, InvalidArgumentError } from "commander";
import { EngineState, type TaskEvent, WatchTasksResponseSchema } from "../../gen/signalbox/v1/task_pb.ts";
import { firstLine, jsonLine, printable } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface EventFlags extends ServerOptions {
  agent?: string;
  capability?: string;
  context?: string;
  state: EngineState[];
  after?: string;
}

export function addTaskEventsCommand(task: Command, cli: Cli): void {
  const { io } = cli;
  const events = task
    .command("events")
    .description("follow what happens to all tasks, until it is stopped")
    .option("--agent <id>", "only tasks of this agent")
    .option("--capability <id>", "only tasks of this capability")
    .option("--context <id>", "only tasks of this conversation")
    .option("--state <state>", "only events that bring this state, as FAILED; may be repeated", gatherState, [])
    .option("--after <cursor>", "go on after this item: the cursor that --json shows with each");
  withServer(events).action((flags: EventFlags) =>
    callServer(cli, flags, async ({ tasks }) => {
      const { agent = "", capability = "", context = "", after = "" } = flags;
      const request = { agentId: agent, capabilityId: capability, contextId: context, states: flags.state };
      // Not the cursor that was given, which the server may refuse.
      let last = "";
      try {
        for await (const item of tasks.watchTasks({ ...request, cursor: after })) {
          last = item.cursor;
          if (flags.json) io.out(jsonLine(toJson(WatchTasksResponseSchema, item)));
          else if (item.event) io.out(eventLine(item.event));
        }
      } finally {
        if (!flags.json && last !== "") io.err(`Go on with: signalbox task events --after ${printable(last)}\n`);
      }
    }),
  );
}

function eventLine({ taskId, agentId, time, state, cause, update }: TaskEvent): string {
  const artifact = update?.payload.case === "artifactUpdate" ? update.payload.value.artifact : undefined;
  const what = artifact ? `artifact ${artifact.name || artifact.artifactId}` : stateName(state);
  const words = [time ? timestampDate(time).toISOString() : "", taskId, agentId, what, firstLine(cause)].filter(
    Boolean,
  );
  return `${printable(words.join("   ")).replaceAll("\n", " ")}\n`;
}

/** The name of a state; its number when the server knows more of them than this program. */
const stateName = (state: EngineState): string =>
  Object.entries(EngineState).find(([, value]) => value === state)?.[0] ?? String(state);

function gatherState(text: string, before: EngineState[]): EngineState[] {
  const name = text.toUpperCase().replaceAll("-", "_");
  const state = EngineState[name as keyof typeof EngineState];
  if (!state) {
    const names = Object.keys(EngineState).filter((each) => each !== "UNSPECIFIED");
    throw new InvalidArgumentError(`It is one of ${names.join(", ")}.`);
  }
  return [...before, state];
}
