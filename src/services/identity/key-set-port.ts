/** The port through which the keys of issuers are found. outbound/ implements it. */

/** A key as its issuer publishes it: an object of JSON of which nothing is checked (RFC 7517). */
export type PublishedKey = Readonly<Record<string, unknown>>;

/** Most keys of one issuer. */
export const MAX_PUBLISHED_KEYS = 100;

export interface KeySetFetcher {
  /**
   * What an issuer publishes now, found by discovery: OpenID Connect Discovery (section 4), or RFC 8414. Takes bounded time, and at
   * most `MAX_PUBLISHED_KEYS` keys.
   *
   * @throws Error which says to an operator what went wrong. Nothing of it is for callers.
   */
  fetch(issuer: string): Promise<readonly PublishedKey[]>;
}
