/** The capabilities that the text of a message fits. */
import type { Message } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import type { CapabilitySearch } from "../capability-search.ts";

/** Offers that are looked at, and capabilities that are tried, at most. */
const MOST_MATCHES = 64;
const MOST_CAPABILITIES = 16;
/** Characters of a message that are matched. */
const MOST_TEXT = 1024;

/** The beginning of what a message says in words. */
export function textOf({ parts }: Message): string {
  let text = "";
  for (const { content } of parts) {
    if (content.case !== "text") continue;
    text += text === "" ? content.value : `\n${content.value}`;
    if (text.length >= MOST_TEXT) return text.slice(0, MOST_TEXT);
  }
  return text;
}

/** The best first, each with the score of the offer that fits best. */
export function matchedCapabilities(search: CapabilitySearch, text: string): { capabilityId: string; score: number }[] {
  if (text === "") return [];
  const scores = new Map<string, number>();
  // The best come first: the first offer of a capability has its score.
  for (const { capabilityId, score } of search.matches(text, MOST_MATCHES)) {
    if (!scores.has(capabilityId)) scores.set(capabilityId, score);
    if (scores.size === MOST_CAPABILITIES) break;
  }
  return [...scores].map(([capabilityId, score]) => ({ capabilityId, score }));
}
