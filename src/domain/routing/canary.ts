/** Which contexts belong to a canary: a share of them, always the same ones. */
import { hashText, mix32 } from "./hash.ts";

/**
 * Whether a context is of the canary's share, from 0 to 100 percent. It stays on its side while the percentage does; when
 * that grows, contexts come to the canary, and none leaves it. Each capability has a share of its own.
 */
export function isInCanary(contextId: string, capabilityId: string, percent: number): boolean {
  const place = mix32(hashText(contextId) ^ mix32(hashText(capabilityId)));
  return place < (percent / 100) * 2 ** 32;
}
