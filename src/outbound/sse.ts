/**
 * Server-sent events as the WHATWG HTML standard defines them (section 9.2), read byte by byte: a chunk may end anywhere,
 * inside a character or between the two bytes of a line's end.
 */

export interface SseEvent {
  /** `message` where the event names none. */
  type: string;
  /** The data lines, joined by line feeds. */
  data: string;
}

/** A stream that cannot be read on: an event is too large, or not UTF-8. */
export class SseError extends Error {
  /** What was received of the event, as far as it is text. */
  readonly raw: string;

  constructor(message: string, raw: Uint8Array) {
    super(message);
    this.name = "SseError";
    this.raw = Buffer.from(raw.buffer, raw.byteOffset, Math.min(raw.byteLength, 8192)).toString();
  }
}

const LF = 10;
const CR = 13;

/**
 * Makes a function that takes the next chunk of a stream and gives the events that it completes. An event that the
 * stream's end leaves unfinished is never given, as the standard says. Throws SseError when an event holds more than
 * `maxEventBytes` or is no UTF-8; the stream is of no use after that.
 */
export function createSseParser(maxEventBytes: number): (chunk: Uint8Array) => SseEvent[] {
  // Strict, because text with replacement characters in it would pass for what the agent said.
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  // The beginning of a line whose end has not come yet. Copied and grown by doubling: to keep the chunks themselves would
  // let an agent that sends byte by byte hold many times what it sent.
  let begun = Buffer.alloc(0);
  let begunBytes = 0;
  let eventBytes = 0;
  let type = "";
  let data: string[] = [];
  let afterCr = false;
  let isFirstLine = true;

  function admit(piece: Uint8Array): void {
    if (eventBytes + begunBytes + piece.length <= maxEventBytes) return;
    throw new SseError(`An event of the stream is larger than ${maxEventBytes} bytes.`, piece);
  }

  function keep(piece: Uint8Array): void {
    const size = begunBytes + piece.length;
    if (size > begun.length) {
      const larger = Buffer.allocUnsafe(Math.max(1024, size * 2));
      begun.copy(larger, 0, 0, begunBytes);
      begun = larger;
    }
    begun.set(piece, begunBytes);
    begunBytes = size;
  }

  /** The line that ends with `piece`. */
  function takeLine(piece: Uint8Array): string {
    let bytes = piece;
    admit(piece);
    if (begunBytes > 0) {
      keep(piece);
      bytes = begun.subarray(0, begunBytes);
      begun = Buffer.alloc(0);
      begunBytes = 0;
    }
    let line: string;
    try {
      line = decoder.decode(bytes);
    } catch {
      throw new SseError("The stream is not UTF-8.", bytes);
    }
    if (isFirstLine && line.startsWith("\uFEFF")) line = line.slice(1);
    isFirstLine = false;
    return line;
  }

  function takeField(line: string): void {
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      data.push(value);
      eventBytes += value.length + 1;
    } else if (name === "event") {
      type = value;
    }
  }

  function takeEvent(): SseEvent | undefined {
    const event = data.length > 0 ? { type: type || "message", data: data.join("\n") } : undefined;
    type = "";
    data = [];
    eventBytes = 0;
    return event;
  }

  return (chunk) => {
    const events: SseEvent[] = [];
    let start = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i];
      if (byte !== LF && byte !== CR) {
        afterCr = false;
        continue;
      }
      if (byte === LF && afterCr) {
        // The second byte of CR LF: the line has already ended.
        afterCr = false;
        start = i + 1;
        continue;
      }
      afterCr = byte === CR;
      const isBlank = i === start && begunBytes === 0;
      if (isBlank) {
        const event = takeEvent();
        if (event) events.push(event);
      } else {
        takeField(takeLine(chunk.subarray(start, i)));
      }
      start = i + 1;
    }
    if (start < chunk.length) {
      admit(chunk.subarray(start));
      keep(chunk.subarray(start));
    }
    return events;
  };
}
