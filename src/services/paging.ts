/** Pages of lists: how long they are, and the tokens of those that follow. */
import { invalidArgument } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";

const MAX_PAGE = 100;

/** How many items a page has: `size`, or `standard` if it is 0, but never more than `most`. */
export function pageLimit(size: number, standard: number, most = MAX_PAGE): number {
  if (size < 0) throw invalidArgument([{ field: "pageSize", description: "must not be negative" }]);
  return Math.min(size || standard, most);
}

/** The token of the page after the item with these ids. */
export const pageToken = (...ids: readonly string[]): string => Buffer.from(ids.join("/")).toString("base64url");

/**
 * What `method` put into a page token, as `read` makes it out, which returns undefined for what is no token of the method;
 * undefined for no token, which is the first page.
 */
export function pageTokenAs<T>(token: string, method: string, read: (text: string) => T | undefined): T | undefined {
  if (token === "") return undefined;
  const found = read(Buffer.from(token, "base64url").toString());
  if (found !== undefined) return found;
  throw invalidArgument([{ field: "pageToken", description: `is not a nextPageToken of ${method}` }]);
}

/** The `count` ids that `method` put into a page token; undefined for none, which is the first page. */
export const readPageToken = (token: string, count: number, method: string): string[] | undefined =>
  pageTokenAs(token, method, (text) => {
    const ids = text.split("/");
    return ids.length === count && ids.every(isDnsLabel) ? ids : undefined;
  });
