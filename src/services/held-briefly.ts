/** What is read of a workspace with every message and seldom changes: held for a moment rather than read each time. */
import { getOrMake } from "../domain/get-or-make.ts";
import type { Runtime } from "./runtime.ts";

/** How long another replica's change may go unseen, in milliseconds. */
const HELD_MS = 1_000;

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

/** Loads of a workspace that may overlap: of what they bring, the result of the one that was begun last stays. */
export function latestStays(): (workspaceId: string) => () => boolean {
  const places = new Map<string, { begun: number; kept: number }>();
  return (workspaceId) => {
    const place = getOrMake(places, workspaceId, () => ({ begun: 0, kept: 0 }));
    const number = ++place.begun;
    return () => {
      if (number < place.kept) return false;
      place.kept = number;
      return true;
    };
  };
}

/** A load that is held for a moment. What it brought lies with whoever loads. */
export interface LoadedBriefly {
  /**
   * Loads, unless that was done within the last second. Undefined when it was: there is nothing to wait for. Who asks while it is
   * loaded waits for the same. A failure is not held. With `isStale` it is loaded all the same, unless it is already.
   */
  load(workspaceId: string, isStale?: boolean): Promise<void> | undefined;
  /** Has it loaded anew when it is asked for next, after a change. */
  changed(workspaceId: string): void;
}

/**
 * `load` brings what is there now, and asks `keeps` when it has it. Where that says no, the result of one that was begun later is kept
 * already, and is to stay. Whoever waited goes by what is kept, so one that takes long is not thrown away because the next was begun.
 */
export function loadBriefly(
  runtime: Pick<Runtime, "elapsedMs">,
  load: (workspaceId: string, keeps: () => boolean) => Promise<void>,
): LoadedBriefly {
  interface Place {
    until: number;
    loading: Promise<void> | undefined;
  }
  const places = new Map<string, Place>();
  const begin = latestStays();
  return {
    load(workspaceId, isStale = false) {
      const now = runtime.elapsedMs();
      const place = getOrMake(places, workspaceId, (): Place => ({ until: 0, loading: undefined }));
      if (place.until > now && (place.loading || !isStale)) return place.loading;
      place.until = now + HELD_MS;
      // One that was begun before a change must not end what was begun after it.
      const isLatest = () => place.loading === loading;
      const loading: Promise<void> = load(workspaceId, begin(workspaceId)).then(
        () => {
          if (isLatest()) place.loading = undefined;
        },
        (error: unknown) => {
          if (isLatest()) {
            place.loading = undefined;
            place.until = 0;
          }
          throw error;
        },
      );
      place.loading = loading;
      return loading;
    },
    changed(workspaceId) {
      const place = places.get(workspaceId);
      if (place) place.until = 0;
    },
  };
}
