/** What is read of a workspace with every message and seldom changes: held for a moment rather than read each time. */
import type { Runtime } from "./runtime.ts";

/** How long another replica's change may go unseen, in milliseconds. */
export const HELD_MS = 1_000;

export interface HeldBriefly<T> {
  /** What was loaded within the last second, or is loaded now. Who asks meanwhile gets the same promise. A failure is not held. */
  get(workspaceId: string): Promise<T>;
  /** Forgets what is held, after a change. */
  forget(workspaceId: string): void;
}

export function holdBriefly<T>(
  runtime: Pick<Runtime, "elapsedMs">,
  load: (workspaceId: string) => Promise<T>,
): HeldBriefly<T> {
  const held = new Map<string, { until: number; loaded: Promise<T> }>();
  return {
    get(workspaceId) {
      const now = runtime.elapsedMs();
      const current = held.get(workspaceId);
      if (current && current.until > now) return current.loaded;
      const loaded = load(workspaceId);
      held.set(workspaceId, { until: now + HELD_MS, loaded });
      loaded.catch(() => {
        if (held.get(workspaceId)?.loaded === loaded) held.delete(workspaceId);
      });
      return loaded;
    },
    forget: (workspaceId) => void held.delete(workspaceId),
  };
}
