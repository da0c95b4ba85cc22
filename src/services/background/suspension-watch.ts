/** Ends the calls of workspaces that were suspended, here or by another replica: streams would go on for ever. */
import type { Logger } from "pino";
import { workspaceSuspended } from "../../domain/identity/errors.ts";
import { isTransient } from "../database-away.ts";
import type { KnownWorkspaces } from "../identity/known-workspaces.ts";
import type { OpenCalls } from "../identity/open-calls.ts";
import { createAlarm } from "./alarm.ts";

/** How often it looks, in milliseconds. */
const EVERY_MS = 1_000;

export interface SuspensionWatchDeps {
  calls: OpenCalls;
  workspaces: Pick<KnownWorkspaces, "standing">;
  log: Logger;
}

export interface SuspensionWatch {
  /** A workspace was suspended here. */
  look(): void;
  stop(): Promise<void>;
}

export function startSuspensionWatch({ calls, workspaces, log }: SuspensionWatchDeps): SuspensionWatch {
  const stop = new AbortController();
  const { signal } = stop;
  const alarm = createAlarm();

  async function look(workspaceId: string): Promise<void> {
    if ((await workspaces.standing(workspaceId)) === "suspended") {
      calls.abort(workspaceId, workspaceSuspended(workspaceId));
    }
  }

  async function keepLooking(): Promise<void> {
    while (!signal.aborted) {
      // Asked for together, they are read together.
      const looks = await Promise.allSettled([...calls.workspaces()].map(look));
      for (const one of looks) {
        if (one.status === "rejected" && !isTransient(one.reason)) {
          log.error({ err: one.reason }, "whether a workspace is suspended could not be read; trying again");
        }
      }
      await alarm.sleep(EVERY_MS, signal).catch(() => {});
    }
  }

  const looking = keepLooking();
  return {
    look: () => alarm.ring(),
    async stop() {
      stop.abort();
      await looking;
    },
  };
}
