/** Signs requests with a key that is never sent: HTTP Message Signatures (RFC 9421), hmac-sha256. */
import { createHash, createHmac, randomBytes } from "node:crypto";
import { type DescMethod, type Message, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

export interface SignOptions {
  /** Of HTTP, such as `POST`. */
  method: string;
  /** The whole address, with its query. */
  url: string | URL;
  /** The content, byte for byte as it is sent: what is compressed on its way is signed compressed. */
  body?: string | Uint8Array | undefined;
  /** The key, `sbx_<key id>_<secret>`, of a kind that signs. */
  key: string;
  /** When it is signed; left out: now. Servers take what lies 5 minutes from their clock, unless told otherwise. */
  time?: Date;
  /** 16 to 64 visible ASCII characters that no other request has; left out: 24 random ones. */
  nonce?: string;
}

/** What to send beside the request's own headers. */
export interface SignedHeaders {
  /** Absent from requests without content whose method seldom has any: GET, HEAD, DELETE. */
  "Content-Digest"?: string;
  "Signature-Input": string;
  Signature: string;
}

const TOKEN = /^sbx_([a-z0-9]{4,32})_([A-Za-z0-9_-]{32,128})$/;
const WITHOUT_CONTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE"]);
const NONCE_BYTES = 18;

/**
 * The headers that sign a request. They are good for this one request and once: what is sent again is signed again.
 *
 * @throws TypeError for a key that is none. Its text never is in the message.
 */
export function signRequest(options: SignOptions): SignedHeaders {
  const { method, body, key, time = new Date(), nonce = randomBytes(NONCE_BYTES).toString("base64url") } = options;
  const [, keyId, secret] = TOKEN.exec(key) ?? [];
  if (keyId === undefined || secret === undefined)
    throw new TypeError("The key is none: keys are sbx_<key id>_<secret>.");
  const { pathname, search } = new URL(options.url);
  const covered: [name: string, value: string][] = [
    ["@method", method],
    ["@path", pathname],
  ];
  if (search !== "") covered.push(["@query", search]);
  const content = body ?? "";
  let digest: string | undefined;
  if (!WITHOUT_CONTENT.has(method) || content.length > 0) {
    digest = `sha-256=:${createHash("sha256").update(content).digest("base64")}:`;
    covered.push(["content-digest", digest]);
  }
  const names = covered.map(([name]) => `"${name}"`).join(" ");
  const created = Math.floor(time.getTime() / 1000);
  const parameters = `(${names});created=${created};keyid="${keyId}";nonce="${nonce}";alg="hmac-sha256"`;
  const lines = covered.map(([name, value]) => `"${name}": ${value}\n`).join("");
  const signature = createHmac("sha256", secret).update(`${lines}"@signature-params": ${parameters}`).digest("base64");
  return {
    ...(digest !== undefined && { "Content-Digest": digest }),
    "Signature-Input": `sig1=${parameters}`,
    Signature: `sig1=:${signature}:`,
  };
}

const FRAME_HEAD_BYTES = 5;

/** A message as gRPC and the streams of Connect frame it, uncompressed: a byte of 0, its length in 4 bytes, and itself. */
export function frameMessage(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(FRAME_HEAD_BYTES + message.length);
  new DataView(framed.buffer).setUint32(1, message.length);
  framed.set(message, FRAME_HEAD_BYTES);
  return framed;
}

/** Signs each call of a Connect transport that sends binary messages, uncompressed, by POST. */
export function signingInterceptor(key: string): Interceptor {
  const bytesOf = (method: DescMethod, message: Message) => toBinary(method.input, message);
  const sign = (header: Headers, url: string, body: Uint8Array) => {
    for (const [name, value] of Object.entries(signRequest({ method: "POST", url, body, key })))
      header.set(name, value);
  };
  return (next) => async (request) => {
    const { method, header, url } = request;
    if (!request.stream) {
      sign(header, url, bytesOf(method, request.message));
      return next(request);
    }
    if (method.methodKind !== "server_streaming") {
      throw new ConnectError(
        "A call that sends a stream cannot be signed. Use a key that is sent.",
        Code.FailedPrecondition,
      );
    }
    const messages: Message[] = [];
    for await (const message of request.message) messages.push(message);
    sign(header, url, Buffer.concat(messages.map((message) => frameMessage(bytesOf(method, message)))));
    return next({ ...request, message: again(messages) });
  };
}

async function* again<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
