/** Reads the body of an HTTP request: within a size, within a time, and only of a kind that we read. */
import { clip } from "../domain/errors.ts";
import { bodyTimeout, clientLeft, messageTooLarge, unsupportedMediaType } from "./http-errors.ts";
import { type HttpRequest, isGone } from "./http-exchange.ts";

/** Both are JSON; A2A registers the second (section 14.1.1). */
export const JSON_TYPE = "application/json";
export const A2A_JSON_TYPE = "application/a2a+json";

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
export async function readJsonBody(req: HttpRequest, limits: BodyLimits): Promise<Buffer> {
  checkEncoding(req);
  const contentType = req.headers["content-type"];
  if (contentType !== undefined) checkContentType(contentType);
  const body = await readBody(req, limits);
  if (contentType === undefined && body.length > 0) {
    throw unsupportedMediaType(`The body has no Content-Type. Send ${JSON_TYPE}.`);
  }
  return body;
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

function checkEncoding(req: HttpRequest): void {
  const encoding = req.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") {
    throw unsupportedMediaType(`Content-Encoding ${clip(String(encoding))} is not understood. Send the body as it is.`);
  }
}

function readBody(req: HttpRequest, { maxBytes, timeoutMs }: BodyLimits): Promise<Buffer> {
  if (Number(req.headers["content-length"] ?? 0) > maxBytes) return Promise.reject(messageTooLarge(maxBytes));
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;

    const onData = (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) settle(() => reject(messageTooLarge(maxBytes)));
      else chunks.push(chunk);
    };
    const onEnd = () => settle(() => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size)));
    const onGone = () => settle(() => reject(clientLeft()));
    const timer = setTimeout(() => settle(() => reject(bodyTimeout(timeoutMs))), timeoutMs);

    function settle(then: () => void) {
      clearTimeout(timer);
      req.off("data", onData);
      req.off("end", onEnd);
      req.off("close", onGone);
      // The error listener stays: an error that comes later must find someone, or it ends the process.
      then();
    }

    req.on("error", onGone);
    req.on("close", onGone);
    req.on("end", onEnd);
    req.on("data", onData);
    // Nothing comes any more from a client that left before we listened.
    if (isGone(req)) onGone();
  });
}
