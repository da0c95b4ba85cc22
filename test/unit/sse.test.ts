import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createSseParser, SseError, type SseEvent } from "../../src/outbound/sse.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

function parse(text: string | Uint8Array, maxEventBytes = 1024): SseEvent[] {
  return createSseParser(maxEventBytes)(typeof text === "string" ? bytes(text) : text);
}

/** Cuts bytes at the given places and feeds the pieces one by one. */
function parseCut(stream: Uint8Array, cuts: number[]): SseEvent[] {
  const feed = createSseParser(1 << 20);
  const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b);
  const events: SseEvent[] = [];
  let from = 0;
  for (const place of [...places, stream.length]) {
    events.push(...feed(stream.subarray(from, place)));
    from = place;
  }
  return events;
}

describe("createSseParser", () => {
  test("reads types, several data lines, comments and unknown fields", () => {
    const text = ": hi\n\nevent: error\ndata: a\ndata:b\ndata\nid: 7\nretry: 1\n\ndata:  c\n\nevent: x\n\ndata: d\n\n";
    expect(parse(text)).toEqual([
      { type: "error", data: "a\nb\n" },
      { type: "message", data: " c" },
      { type: "message", data: "d" },
    ]);
  });

  test.each(["\n", "\r", "\r\n"])("lines end with %j", (end) => {
    expect(parse(["data: a", "data: b", "", "data: c", "", ""].join(end)).map((event) => event.data)).toEqual([
      "a\nb",
      "c",
    ]);
  });

  test("takes a byte order mark at the beginning only", () => {
    expect(parse("\uFEFFdata: a\n\ndata: \uFEFFb\n\n").map((event) => event.data)).toEqual(["a", "\uFEFFb"]);
  });

  test("does not give an event that its stream never finished", () => {
    expect(parse("data: a\n\ndata: b\n")).toEqual([{ type: "message", data: "a" }]);
  });

  test("any chunking gives the same events", () => {
    const line = fc.oneof(
      fc.string({ unit: "grapheme" }).map((text) => `data: ${text.replace(/[\r\n]/g, "")}`),
      fc.constantFrom("", "", ": comment", "event: error", "id: é", "data", "nonsense"),
    );
    const stream = fc
      .array(fc.tuple(line, fc.constantFrom("\n", "\r\n", "\r")))
      .map((lines) => bytes(lines.map(([text, end]) => text + end).join("")));
    fc.assert(
      fc.property(stream, fc.array(fc.nat()), (whole, cuts) => {
        expect(parseCut(whole, cuts)).toEqual(parseCut(whole, []));
      }),
      { numRuns: 500 },
    );
  });

  test("bytewise chunks give back what was written", () => {
    fc.assert(
      fc.property(fc.array(fc.json(), { minLength: 1 }), (items) => {
        const stream = bytes(items.map((item) => `data: ${item}\r\n\r\n`).join(""));
        expect(parseCut(stream, [...stream.keys()]).map((event) => event.data)).toEqual(items);
      }),
    );
  });

  test("bounds one event, however it is split, but not the stream", () => {
    expect(parse("data: 1234\n\n".repeat(100), 16)).toHaveLength(100);
    expect(() => parse(`data: ${"x".repeat(100)}`, 64)).toThrow(SseError);
    expect(() => parse("data: 1234567890\n".repeat(100), 64)).toThrow("larger than 64 bytes");
  });

  test("refuses what is not UTF-8", () => {
    expect(() => parse(new Uint8Array([...bytes("data: "), 0xc3, 0x28, 10, 10]))).toThrow("not UTF-8");
  });
});
