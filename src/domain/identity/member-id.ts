/** Ids of members: how those may look that others have given, and how one stands for many. Pure. */
import type { FieldViolation } from "../errors.ts";

/** Longest id, in bytes of UTF-8: as SPIFFE has it. */
const MAX_BYTES = 2_048;
/** Slashes before the `*` of an entry that stands for many, at most: a lookup asks for as many beginnings of an id. */
export const MOST_SLASHES = 32;

const FORM =
  "must be jwt/<issuer>/<subject> or spiffe/<trust domain>/<path>; a * after a slash at its end stands for all that begin so";

/** What is wrong with the id of a member. */
export function memberIdViolations(field: string, id: string): FieldViolation[] {
  const says = (description: string) => [{ field, description }];
  if (id === "") return says("is required");
  if (Buffer.byteLength(id) > MAX_BYTES) return says(`at most ${MAX_BYTES} bytes`);
  if (/\p{Cc}/u.test(id) || !id.isWellFormed()) return says("must not hold control characters or halves of characters");
  if (id.includes(":")) return says("must not hold a colon: the audit log names agents and servers with one");
  const isMany = id.endsWith("*");
  const star = id.indexOf("*");
  if (star >= 0 && !(isMany && star === id.length - 1 && id.at(-2) === "/")) {
    return says("has a * elsewhere than after a slash at its end");
  }
  // The kind, and the issuer or the trust domain, are always said.
  if (!/^(?:jwt|spiffe)\/[^/]+\/./u.test(id)) return says(FORM);
  if (isMany && id.split("/").length - 1 > MOST_SLASHES)
    return says(`has more than ${MOST_SLASHES} slashes before its *`);
  return [];
}

/** The ids of entries that stand for a principal: its own, and each beginning of it that ends in a slash. */
export function entriesFor(principalId: string): string[] {
  // Whoever is called so that it looks like an entry for many is one of those.
  const entries = principalId.endsWith("/*") ? [] : [principalId];
  for (let at = principalId.indexOf("/"), slashes = 1; at >= 0 && slashes <= MOST_SLASHES; slashes++) {
    entries.push(`${principalId.slice(0, at + 1)}*`);
    at = principalId.indexOf("/", at + 1);
  }
  return entries;
}
