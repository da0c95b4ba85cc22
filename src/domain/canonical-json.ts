/**
 * JSON in its canonical form (RFC 8785): equal values have equal texts, so that a digest of the text is one of the value.
 * Numbers and strings are written as ECMAScript writes them, which is what the RFC asks for. Pure.
 */
import { createHash } from "node:crypto";
import type { JsonValue } from "@bufbuild/protobuf";

/** @throws RangeError for what RFC 8785 does not allow: NaN, the infinities, and text that is not well-formed Unicode. */
export function canonicalJson(value: JsonValue): string {
  if (typeof value === "string") return textOf(value);
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError(`${value} is no JSON number`);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  let text = "";
  if (Array.isArray(value)) {
    for (const each of value) text += (text === "" ? "" : ",") + canonicalJson(each);
    return `[${text}]`;
  }
  // The order of UTF-16 code units, which is that of `sort`.
  for (const name of Object.keys(value).sort()) {
    text += `${(text === "" ? "" : ",") + textOf(name)}:${canonicalJson(value[name]!)}`;
  }
  return `{${text}}`;
}

/** SHA-256 over the canonical JSON of a value. Throws as `canonicalJson` does. */
export const canonicalDigest = (value: JsonValue): Buffer => createHash("sha256").update(canonicalJson(value)).digest();

/** ASCII without what JSON escapes: most texts are, and to look is faster than to call `JSON.stringify`. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** A text in JSON, as ECMAScript writes it. */
export const jsonText = (text: string): string => (PLAIN.test(text) ? `"${text}"` : JSON.stringify(text));

function textOf(text: string): string {
  if (PLAIN.test(text)) return `"${text}"`;
  if (!text.isWellFormed()) throw new RangeError("a text holds half a surrogate pair");
  return JSON.stringify(text);
}
