/** Where a Unix socket of a listener is to be: free, or not. */
import { once } from "node:events";
import { lstat, unlink } from "node:fs/promises";
import net from "node:net";
import { SignalboxError } from "../domain/errors.ts";

/** Beginning of a listener's settings. */
export type Section = "http" | "grpc";

/** A path of a Unix socket is so long at most on every system, in bytes. */
const MAX_SOCKET_PATH = 103;

/** Removes what a dead server has left there. Throws CANNOT_LISTEN where one lives, and where something else is. */
export async function clearSocketPath(path: string, section: Section): Promise<void> {
  try {
    await removeStale(path);
  } catch (error) {
    throw cannotListenAt(path, section, error as Error);
  }
}

export const cannotListenAt = (path: string, section: Section, cause: Error): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "CANNOT_LISTEN",
    message: `The ${NAMES[section]} listener cannot open the Unix socket ${path}: ${cause.message}. Choose another ${section}.socket, or remove what is there.`,
    cause,
  });

/** As operators know them. */
const NAMES = { http: "HTTP", grpc: "gRPC" } as const;

async function removeStale(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new Error(`a path of a Unix socket has ${MAX_SOCKET_PATH} bytes at most`);
  }
  const found = await lstat(path).catch(() => undefined);
  if (!found) return;
  if (!found.isSocket()) throw new Error("there is something else of that name");
  const probe = net.connect({ path });
  try {
    await once(probe, "connect");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ECONNREFUSED") throw error;
    await unlink(path);
    return;
  } finally {
    probe.destroy();
  }
  throw new Error("another server listens there");
}
