/**
 * What HTTP/2 connections may do, on both listeners. nghttp2 bounds much of it: streams that are reset, frames of one header
 * block, acknowledgements that nobody reads. Here is the rest: pings and settings without end, connections that
 * ask for nothing, and those that have become old.
 */
import { constants, type ServerHttp2Session, type ServerOptions } from "node:http2";

export interface Http2Limits {
  /** Most headers of a request, in bytes, with 32 for each as HTTP/2 counts them. Default 32 KiB. */
  headerBytes?: number;
  /** Most streams of a connection at a time. Default 1000. */
  streams?: number;
  /** How old a connection becomes, in milliseconds; 0 when there is no limit. Default 0. */
  ageMs?: number;
  /** A connection is closed that asks for nothing within this time, in milliseconds. Default 30 s. */
  silentMs?: number;
}

export const DEFAULT_HEADER_BYTES = 32 * 1024;
export const DEFAULT_STREAMS = 1_000;

/** A connection on which nothing moves for so long is closed, in milliseconds. */
const IDLE_MS = 300_000;
const DEFAULT_SILENT_MS = 30_000;
/** Streams that a client resets at once, and in the long run. */
const MOST_RESETS = 500;
const RESETS_A_SECOND = 50;
/** PINGs and SETTINGS of a client within `WINDOW_MS`. gRPC clients ping once a round trip while they measure one. */
const MOST_PINGS = 1_000;
const MOST_SETTINGS = 100;
const WINDOW_MS = 10_000;
/** How long clients have to hear that no new call is taken, before none is. */
const NOTICE_MS = 1_000;
/** Largest id of a stream: a GOAWAY with it asks to open no more, and refuses none that is on its way. */
const MAX_STREAM_ID = 2 ** 31 - 1;

/** What node takes of this. */
export function http2Options({ headerBytes = DEFAULT_HEADER_BYTES, streams = DEFAULT_STREAMS }: Http2Limits) {
  return {
    settings: { maxConcurrentStreams: streams, maxHeaderListSize: headerBytes },
    maxSessionInvalidFrames: 100,
    streamResetBurst: MOST_RESETS,
    streamResetRate: RESETS_A_SECOND,
  } satisfies ServerOptions;
}

/** Bounds a new connection. */
export function guardSession(
  session: ServerHttp2Session,
  { ageMs = 0, silentMs = DEFAULT_SILENT_MS }: Http2Limits,
): void {
  // A client that resets its connection is no error of the server's.
  session.on("error", () => session.destroy());
  const silence = setTimeout(() => session.destroy(), silentMs).unref();
  session.once("stream", () => clearTimeout(silence));
  session.setTimeout(IDLE_MS, () => session.close());

  const cutOff = () => session.destroy(new Error("a flood of control frames"), constants.NGHTTP2_ENHANCE_YOUR_CALM);
  session.on("ping", atMost(MOST_PINGS, cutOff));
  session.on("remoteSettings", atMost(MOST_SETTINGS, cutOff));

  const age = ageMs > 0 ? setTimeout(() => retire(session), spread(ageMs)).unref() : undefined;
  session.once("close", () => {
    clearTimeout(silence);
    clearTimeout(age);
  });
}

/** By a tenth less or more, so that connections that began together do not end together. */
export const spread = (ms: number): number => ms * (0.9 + 0.2 * Math.random());

/** Lets calls end, and takes no new one: the client opens another connection for those. */
function retire(session: ServerHttp2Session): void {
  if (session.closed || session.destroyed) return;
  session.goaway(constants.NGHTTP2_NO_ERROR, MAX_STREAM_ID);
  setTimeout(() => {
    if (!session.closed && !session.destroyed) session.close();
  }, NOTICE_MS).unref();
}

/** Calls `then` for whatever comes more than `most` times within the window. */
function atMost(most: number, then: () => void): () => void {
  let count = 0;
  let since = 0;
  return () => {
    const now = performance.now();
    if (now - since > WINDOW_MS) {
      since = now;
      count = 0;
    }
    count++;
    if (count > most) then();
  };
}
