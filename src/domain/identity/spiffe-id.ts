/** SPIFFE IDs (SPIFFE-ID, section 2): who a workload is. Pure. */

export interface SpiffeId {
  readonly trustDomain: string;
  /** Without the slash at its beginning: `ns/shop/sa/cart`. */
  readonly path: string;
}

/** Most characters of an ID: as many as may stand in an id of a principal. The standard allows 2048. */
export const MAX_SPIFFE_ID_LENGTH = 512;

const MAX_TRUST_DOMAIN_LENGTH = 255;
const SCHEME = "spiffe://";

/** Whether a URI means to be one, right or wrong. */
export const claimsSpiffe = (uri: string): boolean => /^spiffe:/i.test(uri);

/**
 * The ID of a workload, as it is written: the standard has one spelling of each, without user, port, query, fragment, percent
 * signs, empty segments and those of dots. Undefined for anything else, and for an ID without a path: it names the trust domain
 * itself, which calls nobody.
 */
export function parseSpiffeId(uri: string): SpiffeId | undefined {
  if (uri.length > MAX_SPIFFE_ID_LENGTH || !uri.startsWith(SCHEME)) return undefined;
  const slash = uri.indexOf("/", SCHEME.length);
  if (slash < 0) return undefined;
  const trustDomain = uri.slice(SCHEME.length, slash);
  const path = uri.slice(slash + 1);
  if (trustDomain.length > MAX_TRUST_DOMAIN_LENGTH || !/^[a-z0-9._-]+$/.test(trustDomain)) return undefined;
  return path.split("/").every(isSegment) ? { trustDomain, path } : undefined;
}

const isSegment = (segment: string): boolean =>
  /^[A-Za-z0-9._-]+$/.test(segment) && segment !== "." && segment !== "..";

/** The id of the principal. No two IDs share one. */
export const spiffePrincipal = ({ trustDomain, path }: SpiffeId): string => `spiffe/${trustDomain}/${path}`;
