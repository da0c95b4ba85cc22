/**
 * Signed requests: HTTP Message Signatures (RFC 9421) with hmac-sha256, and Content-Digest (RFC 9530) with sha-256. What is wrong with
 * one is told by a sentence that says how to mend it, and nothing of keys. Pure.
 */
import { createHmac, hash, timingSafeEqual } from "node:crypto";
import { clip } from "../errors.ts";
import { invalidCredential } from "./errors.ts";
import {
  type BareItem,
  type InnerList,
  innerListText,
  isInnerList,
  itemText,
  type Parameters,
  parseDictionary,
} from "./structured-fields.ts";

/** What of a request is signed. */
export interface SignedRequest {
  /** By its name in lower case; null where there is none. */
  header(name: string): string | null;
  readonly method: string;
  /** Path and query, as they were sent. */
  readonly target: string;
  readonly authority: string;
}

/** A request's signature, taken apart: what it covers and says is checked, that it is right is not. */
export interface RequestSignature {
  readonly keyId: string;
  readonly nonce: string;
  /** Seconds of the epoch. */
  readonly created: number;
  readonly expires: number | undefined;
  /** Whether the content digest is among what is signed. */
  readonly coversContent: boolean;
  /** What was signed. */
  readonly base: string;
  /** 32 bytes. */
  readonly signature: Uint8Array;
}

export const ALGORITHM = "hmac-sha256";

/** Characters of a nonce. */
const NONCE = /^[\x21-\x7e]{16,64}$/;
const SIGNATURE_BYTES = 32;
const DIGEST_BYTES = 32;
/** Components that a signature may cover, at most. */
const MOST_COMPONENTS = 32;
const FIELD_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$/;
/** What cannot be signed by what is itself the signature. */
const UNSIGNABLE: ReadonlySet<string> = new Set(["signature", "signature-input"]);
const KNOWN_PARAMETERS: ReadonlySet<string> = new Set(["created", "keyid", "nonce", "alg", "expires", "tag"]);
/** Methods whose requests seldom have content. */
const WITHOUT_CONTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE"]);
/** What no content hashes to. */
const NO_CONTENT = hash("sha256", "", "buffer");

/**
 * Reads the signature of a request, and checks that it covers and says what it must.
 *
 * @throws SignalboxError CREDENTIAL_INVALID
 */
export function readSignature(request: SignedRequest): RequestSignature {
  const [label, input] = onlyMember(request, "signature-input");
  const [given, signature] = onlyMember(request, "signature");
  if (label !== given) throw wrong("Signature and Signature-Input name their signature differently.");
  if (!isInnerList(input)) throw wrong(`Signature-Input must be a list, such as ${EXAMPLE}.`);
  if (isInnerList(signature) || signature.value.kind !== "bytes" || signature.value.value.length !== SIGNATURE_BYTES) {
    throw wrong(`Signature must be ${SIGNATURE_BYTES} bytes in base64 between colons, such as sig1=:...:.`);
  }
  const said = parametersOf(input.parameters);
  const names = componentsOf(input);
  for (const name of ["@method", "@path", ...(request.target.includes("?") ? ["@query"] : [])]) {
    if (!names.has(name)) throw wrong(`its signature must cover "${name}".`);
  }
  return {
    ...said,
    coversContent: names.has("content-digest"),
    base: signatureBase(request, input),
    signature: signature.value.value,
  };
}

/** The text that is signed (RFC 9421, section 2.5). */
export function signatureBase(request: SignedRequest, input: InnerList): string {
  const lines = input.items.map((item) => `${itemText(item)}: ${componentOf(request, String(item.value.value))}\n`);
  return `${lines.join("")}"@signature-params": ${innerListText(input)}`;
}

/**
 * Checks that a request has the content that was signed.
 *
 * @param digest SHA-256 of the content; undefined where it is not known before the call is under way.
 * @throws SignalboxError CREDENTIAL_INVALID
 */
export function checkContent(
  request: SignedRequest,
  { coversContent }: Pick<RequestSignature, "coversContent">,
  digest: Uint8Array | undefined,
): void {
  if (digest === undefined) {
    throw wrong(
      "what it sends is a stream, and only whole contents can be signed. Use a key that is sent, or a token.",
    );
  }
  const isNeeded = !WITHOUT_CONTENT.has(request.method) || !timingSafeEqual(digest, NO_CONTENT);
  if (!coversContent) {
    if (isNeeded) throw wrong('its signature must cover "content-digest".');
    return;
  }
  const field = request.header("content-digest");
  const member = field === null ? undefined : parseDictionary(field)?.get("sha-256");
  if (!member || isInnerList(member) || member.value.kind !== "bytes" || member.value.value.length !== DIGEST_BYTES) {
    throw wrong("Content-Digest must hold a sha-256, such as sha-256=:...:.");
  }
  if (!timingSafeEqual(member.value.value, digest)) {
    throw wrong("Content-Digest is not that of the content which arrived.");
  }
}

/** HMAC-SHA256 of a signature base. Of our own keys, the key is the text of a secret. */
export const signBase = (base: string, secret: string | Uint8Array): Buffer =>
  createHmac("sha256", secret).update(base).digest();

/** In constant time. */
export const isSignedWith = ({ base, signature }: RequestSignature, secret: string): boolean =>
  timingSafeEqual(signBase(base, secret), signature);

/** Headers of a request that is signed. */
export interface SignatureHeaders {
  "content-digest"?: string;
  "signature-input": string;
  signature: string;
}

export interface SigningOptions {
  keyId: string;
  secret: string | Uint8Array;
  /** Seconds of the epoch. */
  created: number;
  /** 16 to 64 visible ASCII characters, of which no request has the same. */
  nonce: string;
  /** Header fields to cover beside what must be covered, in lower case. */
  fields?: readonly string[];
  /** Left out: the request has no content, and its digest is not signed. */
  contentDigest?: Uint8Array;
}

/** Signs a request. */
export function signHttpRequest(request: SignedRequest, options: SigningOptions): SignatureHeaders {
  const { keyId, secret, created, nonce, fields = [], contentDigest } = options;
  const digestField = contentDigest && `sha-256=:${Buffer.from(contentDigest).toString("base64")}:`;
  const names = ["@method", "@path"];
  if (request.target.includes("?")) names.push("@query");
  if (digestField !== undefined) names.push("content-digest");
  const input: InnerList = {
    items: [...names, ...fields].map((value) => ({ value: { kind: "string", value }, parameters: [] })),
    parameters: [
      ["created", { kind: "integer", value: created }],
      ["keyid", { kind: "string", value: keyId }],
      ["nonce", { kind: "string", value: nonce }],
      ["alg", { kind: "string", value: ALGORITHM }],
    ],
  };
  const header = (name: string) => (name === "content-digest" ? (digestField ?? null) : request.header(name));
  const { method, target, authority } = request;
  const signature = signBase(signatureBase({ method, target, authority, header }, input), secret);
  return {
    ...(digestField !== undefined && { "content-digest": digestField }),
    "signature-input": `sig1=${innerListText(input)}`,
    signature: `sig1=:${signature.toString("base64")}:`,
  };
}

const EXAMPLE = 'sig1=("@method" "@path" "content-digest");created=1700000000;keyid="...";nonce="..."';
const TAKEN =
  '"@method", "@path", "@query", "@authority", "content-digest" and names of header fields, without parameters';

function onlyMember(request: SignedRequest, field: string) {
  const text = request.header(field);
  const name = field === "signature" ? "Signature" : "Signature-Input";
  if (text === null) throw wrong(`a signed call has Signature beside Signature-Input. ${name} is missing.`);
  const members = parseDictionary(text);
  const [only] = members ?? [];
  if (!members || !only) throw wrong(`${name} is no dictionary of RFC 8941 that this server can read.`);
  if (members.size > 1) throw wrong(`${name} holds several signatures. Sign once.`);
  return only;
}

function parametersOf(parameters: Parameters): Pick<RequestSignature, "keyId" | "nonce" | "created" | "expires"> {
  const said = new Map(parameters);
  for (const name of said.keys()) {
    if (!KNOWN_PARAMETERS.has(name)) throw wrong(`its signature has the parameter "${clip(name, 64)}". ${PARAMETERS}`);
  }
  const alg = said.get("alg");
  if (alg && !(alg.kind === "string" && alg.value === ALGORITHM)) throw wrong(`"alg" must be "${ALGORITHM}".`);
  const created = said.get("created");
  const expires = said.get("expires");
  const keyId = textIn(said.get("keyid"));
  const nonce = textIn(said.get("nonce"));
  if (created?.kind !== "integer") throw wrong(`its signature must say when it was made. ${PARAMETERS}`);
  if (expires && expires.kind !== "integer") throw wrong('"expires" must be a number of seconds of the epoch.');
  if (keyId === undefined) throw wrong(`its signature must name a key. ${PARAMETERS}`);
  if (nonce === undefined || !NONCE.test(nonce)) {
    throw wrong('its signature must have a "nonce" of 16 to 64 visible ASCII characters, another for each call.');
  }
  return { keyId, nonce, created: created.value, expires: expires?.value };
}

const PARAMETERS = "It takes created, keyid and nonce, and may have alg, expires and tag.";

const textIn = (item: BareItem | undefined): string | undefined => (item?.kind === "string" ? item.value : undefined);

function componentsOf({ items }: InnerList): ReadonlySet<string> {
  const names = new Set<string>();
  if (items.length > MOST_COMPONENTS) throw wrong(`its signature covers more than ${MOST_COMPONENTS} components.`);
  for (const { value, parameters } of items) {
    const name = value.kind === "string" ? value.value : "";
    const isTaken = DERIVED.has(name) || (FIELD_NAME.test(name) && !UNSIGNABLE.has(name));
    if (!isTaken || parameters.length > 0) throw wrong(`a signature here covers ${TAKEN}; nothing else.`);
    if (names.has(name)) throw wrong(`its signature covers "${clip(name, 64)}" twice.`);
    names.add(name);
  }
  return names;
}

const DERIVED: ReadonlySet<string> = new Set(["@method", "@path", "@query", "@authority"]);

function componentOf(request: SignedRequest, name: string): string {
  const { method, target } = request;
  const query = target.indexOf("?");
  switch (name) {
    case "@method":
      return method;
    case "@path":
      return (query < 0 ? target : target.slice(0, query)) || "/";
    case "@query":
      return query < 0 ? "?" : target.slice(query);
    case "@authority":
      return request.authority.toLowerCase().replace(/:(?:80|443)$/, "");
  }
  const value = request.header(name);
  if (value === null) throw wrong(`its signature covers "${clip(name, 64)}", and it has no such header.`);
  return value.trim();
}

const wrong = invalidCredential;
