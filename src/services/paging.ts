/** Pages of lists whose items have ids. */
import { invalidArgument } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";

const MAX_PAGE = 100;

/** How many items a page has: `size`, or `standard` if it is 0, but never more than 100. */
export function pageLimit(size: number, standard: number): number {
  if (size < 0) throw invalidArgument([{ field: "pageSize", description: "must not be negative" }]);
  return Math.min(size || standard, MAX_PAGE);
}

/** The token of the page after the item with these ids. */
export const pageToken = (...ids: readonly string[]): string => Buffer.from(ids.join("/")).toString("base64url");

/** The `count` ids that `method` put into a page token; undefined for none, which is the first page. */
export function readPageToken(token: string, count: number, method: string): string[] | undefined {
  if (token === "") return undefined;
  const ids = Buffer.from(token, "base64url").toString().split("/");
  if (ids.length === count && ids.every(isDnsLabel)) return ids;
  throw invalidArgument([{ field: "pageToken", description: `is not a nextPageToken of ${method}` }]);
}
