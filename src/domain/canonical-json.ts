/** JSON in one spelling (RFC 8785, JSON Canonicalization Scheme): what is equal has the same bytes in UTF-8. */
import type { JsonValue } from "@bufbuild/protobuf";

/**
 * The canonical text of a value: keys in the order of their UTF-16 units, numbers as ECMAScript writes them, no blanks.
 *
 * @throws TypeError for what I-JSON does not have: NaN, an infinity, half a surrogate pair.
 */
export function canonicalJson(value: JsonValue): string {
  if (typeof value === "string") return quoted(value);
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value} is no number of JSON`);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const members = Object.keys(value)
    .sort()
    .map((key) => `${quoted(key)}:${canonicalJson(value[key]!)}`);
  return `{${members.join(",")}}`;
}

/** JSON.stringify escapes what RFC 8785 says, but takes half a surrogate pair, too. */
function quoted(text: string): string {
  if (!text.isWellFormed()) throw new TypeError("a text holds half a surrogate pair");
  return JSON.stringify(text);
}
