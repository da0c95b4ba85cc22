/** Server-Sent Events: how both JSON bindings stream. A2A specification, sections 9.4.2 and 11.7. */
import type { Writable } from "node:stream";
import { type HttpResponse, isClosed, setHeaders } from "./http-exchange.ts";

export interface SseFrame {
  /** One line: JSON without line breaks. */
  data: string;
  /** Becomes `id:`, which a client sends back as Last-Event-ID. */
  id?: number | string | undefined;
  /** Becomes `event:`; left out for ordinary items. */
  event?: string;
}

export interface SseOptions<T> {
  /** How long a silent stream waits before a comment shows that it lives, in milliseconds. */
  keepAliveMs: number;
  /** Further response headers, asked for when the first item is ready. */
  headers(): Iterable<[string, string]>;
  frame(item: T): SseFrame;
  /** The last frame of a stream that breaks. */
  errorFrame(thrown: unknown): SseFrame;
}

/**
 * Writes a stream, at the pace at which the client reads. The answer begins with the first item: what the source throws
 * before is thrown here, so that it can be an ordinary error answer. What it throws later becomes the error frame.
 * Leaves the source when the client leaves. Ends when all is written.
 */
export async function writeSse<T>(source: AsyncIterable<T>, res: HttpResponse, options: SseOptions<T>): Promise<void> {
  let stream: SseStream | undefined;
  try {
    for await (const item of source) {
      const frame = options.frame(item);
      stream ??= new SseStream(res, options.keepAliveMs, options.headers());
      await stream.write(frame);
      if (stream.closed) return;
    }
    stream ??= new SseStream(res, options.keepAliveMs, options.headers());
  } catch (thrown) {
    if (stream === undefined) throw thrown;
    await stream.write(options.errorFrame(thrown));
  } finally {
    stream?.end();
  }
}

/** An answer that is a stream of events, with its keep-alive. */
class SseStream {
  readonly #res: HttpResponse;
  readonly #keepAlive: NodeJS.Timeout;
  /** The same answer; its two kinds type `write` differently. */
  readonly #out: Writable;
  #blocked = false;

  constructor(res: HttpResponse, keepAliveMs: number, headers: Iterable<[string, string]>) {
    this.#res = res;
    this.#out = res;
    if (!this.closed) {
      setHeaders(res, headers);
      res.setHeader("content-type", "text/event-stream");
      res.setHeader("cache-control", "no-cache");
      // Proxies of the nginx family hold answers back unless told not to.
      res.setHeader("x-accel-buffering", "no");
      res.statusCode = 200;
    }
    this.#keepAlive = setInterval(() => {
      // A client that does not read needs no sign of life, only more memory.
      if (!this.#blocked && !this.closed) this.#out.write(": keep-alive\n\n");
    }, keepAliveMs);
    this.#keepAlive.unref();
  }

  get closed(): boolean {
    return isClosed(this.#res);
  }

  /** Resolves when the client can take more, or has left. */
  async write(frame: SseFrame): Promise<void> {
    if (this.closed) return;
    this.#keepAlive.refresh();
    if (this.#out.write(formatFrame(frame))) return;
    this.#blocked = true;
    await drained(this.#res);
    this.#blocked = false;
  }

  end(): void {
    clearInterval(this.#keepAlive);
    if (!this.closed) this.#res.end();
  }
}

function formatFrame({ id, event, data }: SseFrame): string {
  const idLine = id === undefined ? "" : `id: ${id}\n`;
  const eventLine = event === undefined ? "" : `event: ${event}\n`;
  return `${idLine}${eventLine}data: ${data}\n\n`;
}

function drained(res: HttpResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      res.off("drain", done);
      res.off("close", done);
      resolve();
    };
    res.on("drain", done);
    res.on("close", done);
  });
}
