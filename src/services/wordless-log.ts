/** The log of a task whose output is looked at before it leaves: what its agent says is not told there either. */
import { AgentCallError, type AgentFailureKind } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";

/** A log that leaves out what is in an agent's words, as long as `isHushed`: of its failures, only their kind is told. */
export function wordless(log: TaskLog, isHushed: () => boolean): TaskLog {
  const tell =
    (level: keyof TaskLog): TaskLog[typeof level] =>
    (facts, text) =>
      log[level](typeof facts === "string" || !isHushed() ? facts : withoutWords(facts), text);
  return { debug: tell("debug"), info: tell("info"), warn: tell("warn"), error: tell("error") };
}

function withoutWords(facts: object): object {
  const { why: _, ...told } = facts as { err?: unknown; why?: unknown; reason?: unknown };
  if (!(told.err instanceof AgentCallError) || !IN_ITS_WORDS.has(told.err.kind)) return told;
  const { err, reason, ...others } = told;
  return { ...others, kind: err.kind };
}

/** Of the others it is the connection that tells. */
const IN_ITS_WORDS: ReadonlySet<AgentFailureKind> = new Set(["refused", "invalid"]);
