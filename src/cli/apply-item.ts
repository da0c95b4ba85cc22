/** One thing that `signalbox apply` sees to. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { SignalboxClient } from "../sdk/client.ts";

/** What was done, or with `--dry-run` would have been. */
export type Outcome = "created" | "configured" | "unchanged";

export interface ApplyItem {
  /** `agent/writer`: no two things of a file have the same. */
  readonly name: string;
  /** Where it stands in its file. */
  readonly where: string;
  /** Brings the server to what the file says. With `dryRun`, only says what there is to do. */
  apply(client: SignalboxClient, dryRun: boolean): Promise<Outcome>;
}

/** What a call returns; undefined where there is no such thing. */
export async function found<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.NotFound) return undefined;
    throw error;
  }
}
