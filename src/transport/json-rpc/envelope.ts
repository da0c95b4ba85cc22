/** The Request and Response objects of JSON-RPC 2.0. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { clip, SignalboxError } from "../../domain/errors.ts";
import { decodeText, isObject, parseJson } from "../proto-json.ts";
import { invalidJson, invalidRequest } from "./errors.ts";

export interface JsonRpcRequest {
  /** The id as JSON text, to be sent back as it came. Undefined for a notification. */
  id: string | undefined;
  method: string;
  /** An object; empty when the request has no params. */
  params: JsonValue;
}

/** What a request is answered with when its id cannot be known. */
export const NO_ID = "null";

/**
 * Reads a body. `onId` learns the id as soon as it is known, so that an error can carry it.
 * Throws INVALID_JSON (-32700), INVALID_REQUEST (-32600), and INVALID_ARGUMENT (-32602) for params of another kind.
 */
export function readRequest(body: Buffer, onId: (id: string) => void): JsonRpcRequest {
  const json = readJson(body);
  if (Array.isArray(json)) throw invalidRequest("A2A has no batches: send one Request object a call.");
  if (!isObject(json)) throw invalidRequest("The body has to be a JSON-RPC 2.0 Request object.");
  const id = readId(json, body);
  if (id !== undefined) onId(id);
  if (json.jsonrpc !== "2.0") throw invalidRequest('The member "jsonrpc" has to be "2.0".');
  const { method, params } = json;
  if (typeof method !== "string") throw invalidRequest('The member "method" has to be a string.');
  if (params !== undefined && params !== null && !isObject(params)) {
    throw new SignalboxError({
      code: "INVALID_ARGUMENT",
      reason: "INVALID_ARGUMENT",
      message: "The params have to be an object: A2A names its parameters.",
    });
  }
  return { id, method: clip(method), params: params ?? {} };
}

function readJson(body: Buffer): JsonValue {
  try {
    return parseJson(body);
  } catch (error) {
    throw error instanceof SignalboxError ? invalidJson(error) : error;
  }
}

function readId(json: JsonObject, body: Buffer): string | undefined {
  const id = json.id;
  if (id === undefined) return undefined;
  if (typeof id === "number" && !Number.isSafeInteger(id)) return sourceOfId(body);
  if (id === null || typeof id === "number" || typeof id === "string") return JSON.stringify(id);
  throw invalidRequest('The member "id" has to be a string, a number or null.');
}

/** A number that JavaScript would round, as the client wrote it: other languages have 64-bit ids. */
function sourceOfId(body: Buffer): string {
  const sources = new WeakMap<object, string>();
  const root = JSON.parse(decodeText(body), function (this: object, key: string, value: unknown, context?: unknown) {
    if (key === "id" && typeof value === "number") sources.set(this, (context as { source: string }).source);
    return value;
  });
  return sources.get(root) ?? NO_ID;
}

/** `result` is JSON text. */
export const resultText = (id: string, result: string): string => `{"jsonrpc":"2.0","id":${id},"result":${result}}`;

export const errorText = (id: string, error: JsonObject): string =>
  `{"jsonrpc":"2.0","id":${id},"error":${JSON.stringify(error)}}`;
