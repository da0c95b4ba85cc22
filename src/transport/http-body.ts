/** Reads the body of an HTTP request: within a size, within a time, and only of a kind that we read. */
import { clip, type SignalboxError } from "../domain/errors.ts";
import { bodyTimeout, clientLeft, messageTooLarge, unsupportedMediaType } from "./http-errors.ts";
import { type HttpRequest, isGone } from "./http-exchange.ts";
import { createTimeLimit } from "./time-limit.ts";

/** Both are JSON; A2A registers the second (section 14.1.1). */
export const JSON_TYPE = "application/json";
export const A2A_JSON_TYPE = "application/a2a+json";

/** To be called when the time of a body is over. */
type Late = () => void;

export interface BodyLimits {
  /** Largest body, in bytes. */
  maxBytes: number;
  /** How long the whole body may take, in milliseconds. */
  timeoutMs: number;
}

/**
 * Reads a JSON body as bytes; empty when there is none. After an error the rest of the body is still to be discarded.
 * Throws MESSAGE_TOO_LARGE, BODY_TIMEOUT, CLIENT_LEFT, and UNSUPPORTED_MEDIA_TYPE unless the body is JSON, or empty and
 * without a Content-Type.
 */
export type BodyReader = (req: HttpRequest) => Promise<Buffer>;

export function createBodyReader(limits: BodyLimits): BodyReader {
  const { maxBytes, timeoutMs } = limits;
  const arrival = createTimeLimit<Late>(timeoutMs, (late) => late());
  return (req) =>
    new Promise((resolve, reject) => {
      checkHead(req, maxBytes);
      const chunks: Buffer[] = [];
      let size = 0;
      /** The listeners stay: an error that comes later must find someone, or it ends the process. */
      let settled = false;

      const onData = (chunk: Buffer) => {
        if (settled) return;
        size += chunk.length;
        if (size > maxBytes) refuse(messageTooLarge(maxBytes));
        else chunks.push(chunk);
      };
      const onEnd = () => {
        if (settled) return;
        if (size > 0 && req.headers["content-type"] === undefined) return refuse(contentTypeMissing());
        settle();
        resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size));
      };
      const onGone = () => {
        if (!settled) refuse(clientLeft());
      };
      const onLate = () => refuse(bodyTimeout(timeoutMs));

      function refuse(error: SignalboxError): void {
        settle();
        chunks.length = 0;
        reject(error);
      }
      function settle(): void {
        settled = true;
        arrival.end(onLate);
      }

      arrival.begin(onLate);
      req.on("error", onGone);
      req.on("close", onGone);
      req.on("end", onEnd);
      req.on("data", onData);
      // Nothing comes any more from a client that left before we listened.
      if (isGone(req)) onGone();
    });
}

/** Throws for a body that is not to be read at all. */
function checkHead({ headers }: HttpRequest, maxBytes: number): void {
  checkEncoding(headers["content-encoding"]);
  const contentType = headers["content-type"];
  if (contentType !== undefined && contentType !== JSON_TYPE) checkContentType(contentType);
  if (Number(headers["content-length"] ?? 0) > maxBytes) throw messageTooLarge(maxBytes);
}

function checkContentType(contentType: string): void {
  const [type = "", ...parameters] = contentType.toLowerCase().split(";");
  if (type.trim() !== JSON_TYPE && type.trim() !== A2A_JSON_TYPE) {
    throw unsupportedMediaType(
      `Content-Type ${clip(contentType)} is not understood. Send ${JSON_TYPE} or ${A2A_JSON_TYPE}.`,
    );
  }
  for (const parameter of parameters) {
    const [name = "", value = ""] = parameter.split("=");
    if (name.trim() !== "charset") continue;
    const charset = value.trim().replaceAll('"', "");
    if (charset !== "utf-8" && charset !== "utf8" && charset !== "us-ascii") {
      throw unsupportedMediaType(`JSON is UTF-8; charset ${clip(charset)} is not understood.`);
    }
  }
}

function checkEncoding(encoding: string | undefined): void {
  if (encoding !== undefined && encoding !== "identity") {
    throw unsupportedMediaType(`Content-Encoding ${clip(encoding)} is not understood. Send the body as it is.`);
  }
}

const contentTypeMissing = () => unsupportedMediaType(`The body has no Content-Type. Send ${JSON_TYPE}.`);
