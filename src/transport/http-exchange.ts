/** One HTTP request and its answer, the same for HTTP/1.1 and HTTP/2. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** How long the rest of a body that nobody wants is read and thrown away before the client is cut off. */
const DISCARD_MS = 1000;

/** Whether the connection, or the HTTP/2 stream, under a request or an answer is gone. */
export function isGone(side: HttpRequest | HttpResponse): boolean {
  return "stream" in side ? side.stream.destroyed : side.destroyed;
}

/** Whether nothing more can be sent. */
export function isClosed(res: HttpResponse): boolean {
  return res.writableEnded || isGone(res);
}

/** Sends a whole answer. Does nothing when the client has left. */
export function sendText(
  res: HttpResponse,
  status: number,
  contentType: string,
  text: string,
  headers?: Iterable<[string, string]>,
): void {
  if (isClosed(res)) return;
  setHeaders(res, headers);
  // Of HTTP/1.1 and HTTP/2 alike, for which TypeScript has two signatures.
  (res as ServerResponse).writeHead(status, {
    "content-type": contentType,
    "content-length": Buffer.byteLength(text),
  });
  res.end(text);
}

/** Sends an answer without a body. */
export function sendNothing(res: HttpResponse, status: number, headers?: Iterable<[string, string]>): void {
  if (isClosed(res)) return;
  setHeaders(res, headers);
  res.statusCode = status;
  res.end();
}

/** Sets headers on an answer that has not begun. */
export function setHeaders(res: HttpResponse, headers: Iterable<[string, string]> = []): void {
  for (const [name, value] of headers) res.setHeader(name, value);
}

/**
 * Lets go of a request whose body was not read to its end. Closing at once would reset the connection under the answer,
 * so what still comes is thrown away for a moment; a client that goes on sending is cut off then.
 */
export function discardBody(req: HttpRequest): void {
  if (req.readableEnded || isGone(req)) return;
  const timer = setTimeout(() => cutOff(req), DISCARD_MS);
  timer.unref();
  const done = () => clearTimeout(timer);
  req.once("end", done);
  req.once("close", done);
  req.resume();
}

function cutOff(req: HttpRequest): void {
  if ("stream" in req) req.stream.close(constants.NGHTTP2_NO_ERROR);
  else req.destroy();
}
