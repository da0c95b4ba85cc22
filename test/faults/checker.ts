/** Proves from all the evidence of a run that nothing was lost, doubled, torn or told in two ways. */
import { checkAgents } from "./check-agents.ts";
import { checkClients } from "./check-clients.ts";
import { checkLog } from "./check-log.ts";
import type { Evidence } from "./evidence.ts";

/** Everything that is wrong, in words; nothing when all is well. */
export function check(evidence: Evidence): string[] {
  const logs = evidence.tasks.flatMap((log) => checkLog(log).map((fault) => `${log.header.taskId}: ${fault}`));
  const orphans = evidence.orphans.map((taskId) => `${taskId}: lost: rows without their task`);
  // Of torn logs the rest cannot be told.
  if (logs.some((fault) => fault.includes(": gap: "))) return [...logs, ...orphans, ...evidence.surprises];
  return [...logs, ...orphans, ...checkClients(evidence), ...checkAgents(evidence), ...evidence.surprises];
}
