/**
 * An agent that writes a short text about what it is asked and streams it piece by piece, as a language model would.
 *
 *     npx node examples/agents/writer.ts [port]
 */
import { setTimeout as pause } from "node:timers/promises";
import { TaskState } from "@a2a-js/sdk";
import type { AgentExecutor } from "@a2a-js/sdk/server";
import { type AgentOptions, type RunningAgent, startAgent } from "./agent-server.ts";
import { beginTurn, type Turn } from "./turn.ts";

/** Between two pieces, in milliseconds: long enough to see the text grow. */
const PIECE_MS = 30;

export function startWriterAgent(options: AgentOptions = {}): Promise<RunningAgent> {
  return startAgent(
    {
      name: "Writer",
      description: "Writes a short text about anything and streams it piece by piece.",
      skill: {
        id: "write",
        name: "Write",
        description: "Writes a few sentences about a subject.",
        tags: ["text", "streaming"],
        examples: ["Write about lighthouses"],
      },
      executor: createExecutor(),
      grpc: true,
    },
    options,
  );
}

function createExecutor(): AgentExecutor {
  const writing = new Map<string, AbortController>();
  return {
    async execute(context, bus) {
      const turn = beginTurn(context, bus);
      const canceled = new AbortController();
      writing.set(turn.taskId, canceled);
      try {
        await write(turn, canceled.signal);
        turn.report(TaskState.TASK_STATE_COMPLETED);
      } catch (error) {
        if (!canceled.signal.aborted) throw error;
        turn.report(TaskState.TASK_STATE_CANCELED);
      } finally {
        writing.delete(turn.taskId);
      }
    },
    async cancelTask(taskId) {
      writing.get(taskId)?.abort();
    },
  };
}

async function write(turn: Turn, signal: AbortSignal): Promise<void> {
  const artifact = { id: `${turn.taskId}-text`, name: "text" };
  // As people read: up to the next comma or full stop.
  const pieces = compose(turn.said).split(/(?<=[,.] )/);
  for (const [index, piece] of pieces.entries()) {
    turn.piece(artifact, piece, { first: index === 0, last: index === pieces.length - 1 });
    await pause(PIECE_MS, undefined, { signal });
  }
}

function compose(said: string): string {
  const subject =
    said.replace(/^(please\s+)?(write|tell)\b.*?\babout\s+/i, "").replace(/[.!?\s]+$/, "") || "nothing at all";
  return (
    `You asked about ${subject}. It begins quietly, as most things do, and someone has to notice it first. ` +
    `Then it is passed on, from one to the next, and each adds a word. In the end there is a text about ${subject}, ` +
    "and nobody remembers who began it."
  );
}

if (import.meta.main) {
  const agent = await startWriterAgent({ port: Number(process.argv[2] ?? 0) });
  console.log(`The writer serves at ${agent.url}`);
}
