/**
 * An agent that cannot begin without an answer: it asks where to go, and plans the journey when it knows.
 *
 *     npx node examples/agents/travel.ts [port]
 */
import { TaskState } from "@a2a-js/sdk";
import type { AgentExecutor } from "@a2a-js/sdk/server";
import { type AgentOptions, type RunningAgent, startAgent } from "./agent-server.ts";
import { beginTurn, reportCanceled } from "./turn.ts";

export function startTravelAgent(options: AgentOptions = {}): Promise<RunningAgent> {
  return startAgent(
    {
      name: "Travel",
      description: "Plans a journey. Asks where to go before it begins.",
      skill: {
        id: "plan-journey",
        name: "Plan a journey",
        description: "Plans three days at a place.",
        tags: ["travel", "input-required"],
        examples: ["Plan a journey"],
      },
      executor: createExecutor(),
      grpc: false,
    },
    options,
  );
}

function createExecutor(): AgentExecutor {
  /** The contexts of the tasks that wait for an answer. */
  const waiting = new Map<string, string>();
  return {
    async execute(context, bus) {
      const turn = beginTurn(context, bus);
      if (!turn.resumed || turn.said === "") {
        waiting.set(turn.taskId, context.contextId);
        turn.report(TaskState.TASK_STATE_INPUT_REQUIRED, "Where to?");
      } else {
        waiting.delete(turn.taskId);
        const artifact = { id: `${turn.taskId}-plan`, name: "plan" };
        turn.piece(artifact, plan(turn.said), { first: true, last: true });
        turn.report(TaskState.TASK_STATE_COMPLETED, `Have a good journey to ${turn.said}.`);
      }
    },
    async cancelTask(taskId, bus) {
      reportCanceled(taskId, waiting.get(taskId) ?? "", bus);
      waiting.delete(taskId);
    },
  };
}

function plan(place: string): string {
  return [
    `Three days in ${place}`,
    "Day 1: arrive, walk without a map, find a place for breakfast.",
    "Day 2: see what everybody goes to see, early in the morning.",
    "Day 3: go back to where breakfast was good, then leave.",
  ].join("\n");
}

if (import.meta.main) {
  const agent = await startTravelAgent({ port: Number(process.argv[2] ?? 0) });
  console.log(`The travel agent serves at ${agent.url}`);
}
