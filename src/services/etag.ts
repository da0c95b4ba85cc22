/** Etags of what the API changes: the revision in quotes. Clients take them as opaque. */
import { SignalboxError } from "../domain/errors.ts";

export const etagOf = (revision: number): string => `"${revision}"`;

/** What stands in an etag: proxies weaken and unquote them. */
export const revisionIn = (etag: string): string => etag.replace(/^W\//, "").replaceAll('"', "");

/** `what`, as it begins the sentence, was not as the client had read it. */
export const etagMismatch = (what: string, metadata: Record<string, string> = {}): SignalboxError =>
  new SignalboxError({
    code: "ABORTED",
    reason: "ETAG_MISMATCH",
    message: `${what} changed by someone else meanwhile. Read again what there is now, and repeat the change.`,
    metadata,
  });
