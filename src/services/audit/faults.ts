/** What is known to be wrong with audit logs: told once in the log of the server, and for as long as it lasts in metrics and health. */
import type { Logger } from "pino";
import type { Fault } from "../../domain/audit/fault.ts";

/** Faults that are remembered of a workspace; the first is what matters. */
const MOST_FAULTS = 100;

/** A log that is being read from its first entry on. */
export interface LogReading {
  report(fault: Fault): void;
  /** It was read to its end. What was not found this time is forgotten. */
  end(): void;
}

export interface AuditFaults {
  report(workspaceId: string, fault: Fault): void;
  reading(workspaceId: string): LogReading;
  /** How many there are by now, and of which workspaces. */
  readonly count: number;
  workspaces(): string[];
}

export function createAuditFaults(log: Logger): AuditFaults {
  const byWorkspace = new Map<string, Map<string, Fault>>();
  // What is missing before it was in the log has no place there yet, and is one fault wherever that would be.
  const keyOf = ({ kind, index, chainId, number }: Fault) =>
    chainId === "" ? `${kind} ${index}` : `${kind} ${chainId} ${number}`;

  function report(workspaceId: string, fault: Fault): void {
    const known = byWorkspace.get(workspaceId) ?? new Map<string, Fault>();
    byWorkspace.set(workspaceId, known);
    if (known.has(keyOf(fault)) || known.size >= MOST_FAULTS) return;
    known.set(keyOf(fault), fault);
    log.error({ workspaceId, fault }, `the audit log is not intact: ${fault.description}`);
  }

  return {
    report,
    reading(workspaceId) {
      /** No more than are remembered, however many there are. */
      const still = new Set<string>();
      return {
        report(fault) {
          report(workspaceId, fault);
          const key = keyOf(fault);
          if (byWorkspace.get(workspaceId)?.has(key)) still.add(key);
        },
        end() {
          const known = byWorkspace.get(workspaceId);
          for (const key of known?.keys() ?? []) if (!still.has(key)) known!.delete(key);
          if (known?.size === 0) byWorkspace.delete(workspaceId);
        },
      };
    },
    get count() {
      return [...byWorkspace.values()].reduce((sum, { size }) => sum + size, 0);
    },
    workspaces: () => [...byWorkspace.keys()],
  };
}
