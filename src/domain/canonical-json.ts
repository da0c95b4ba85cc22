/**
 * JSON in its canonical form (RFC 8785): equal values have equal texts, so that a digest of the text is one of the value.
 * Numbers and strings are written as ECMAScript writes them, which is what the RFC asks for. Pure.
 */
import { createHash } from "node:crypto";
import type { JsonValue } from "@bufbuild/protobuf";

/** @throws RangeError for what RFC 8785 does not allow: NaN, the infinities, and text that is not well-formed Unicode. */
export function canonicalJson(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    // The order of UTF-16 code units, which is that of `sort`.
    const names = Object.keys(value).sort();
    return `{${names.map((name) => `${textOf(name)}:${canonicalJson(value[name]!)}`).join(",")}}`;
  }
  if (typeof value === "string") return textOf(value);
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError(`${value} is no JSON number`);
  return JSON.stringify(value);
}

/** SHA-256 over the canonical JSON of a value. Throws as `canonicalJson` does. */
export const canonicalDigest = (value: JsonValue): Buffer => createHash("sha256").update(canonicalJson(value)).digest();

function textOf(text: string): string {
  if (!text.isWellFormed()) throw new RangeError("a text holds half a surrogate pair");
  return JSON.stringify(text);
}
