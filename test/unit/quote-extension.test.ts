/** What is taken for an agent's quote, and what is not. */
import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MessageSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { quoteIn } from "../../src/domain/quote-extension.ts";

const NOW = new Date("2026-01-01T00:00:00Z");
const saying = (...data: JsonValue[]) =>
  create(MessageSchema, {
    parts: data.map((one) => ({ content: { case: "data" as const, value: fromJson(ValueSchema, one) } })),
  });
const read = (quote: JsonValue, currency = "") => quoteIn(saying({ quote }), { currency, now: NOW });

describe("a quote", () => {
  test("is read whole", () => {
    const quote = { cost: "0.25", latencyMs: 300, terms: { refund: true }, validUntil: "2026-01-01T01:00:00+00:30" };
    expect(read(quote)).toEqual({
      costMicros: 250_000,
      latencyMs: 300,
      terms: { refund: true },
      validUntil: new Date("2026-01-01T00:30:00Z"),
    });
    expect(read({ cost: 0 })).toEqual({
      costMicros: 0,
      latencyMs: undefined,
      terms: undefined,
      validUntil: undefined,
    });
    expect(read({ cost: 1.5, currency: "EUR" }, "EUR")).toMatchObject({ costMicros: 1_500_000 });
  });

  test("is found beside other parts", () => {
    const message = saying("hello", { other: 1 }, { quote: { cost: 1 } });
    message.parts.unshift(create(MessageSchema, { parts: [{ content: { case: "text", value: "Here:" } }] }).parts[0]!);
    expect(quoteIn(message, { currency: "", now: NOW })).toMatchObject({ costMicros: 1_000_000 });
  });

  test.each<[JsonValue, string]>([
    [null, "is none"],
    ["cheap", "is none"],
    [{}, "has the cost nothing, which is no decimal number"],
    [{ cost: -1 }, "has the cost -1, which is no decimal number"],
    [{ cost: "1e3" }, 'has the cost "1e3", which is no decimal number'],
    [{ cost: 0.0000001 }, "has the cost 1e-7, which is no decimal number"],
    [{ cost: "99999999999999" }, 'has the cost "99999999999999", which is no decimal number'],
    [{ cost: 1, currency: "USD" }, 'is in the currency "USD", not in the workspace\'s'],
    [{ cost: 1, latencyMs: "soon" }, 'has the latencyMs "soon", which is no time in milliseconds'],
    [{ cost: 1, latencyMs: -1 }, "has the latencyMs -1, which is no time in milliseconds"],
    [{ cost: 1, terms: [] }, "has terms that are no object of at most 8192 characters"],
    [{ cost: 1, terms: { x: "x".repeat(9000) } }, "has terms that are no object of at most 8192 characters"],
    [{ cost: 1, validUntil: "tomorrow" }, 'has the validUntil "tomorrow", which is no time, as 2026-01-01T00:00:00Z'],
    [{ cost: 1, validUntil: "2026-99-01T00:00:00Z" }, "has the validUntil"],
    [{ cost: 1, validUntil: "2026-01-01T00:00:00Z" }, 'held until "2026-01-01T00:00:00Z" only'],
  ])("is not %j", (quote, why) => {
    expect(read(quote)).toContain(why);
  });

  test("of any JSON is a quote that can be compared, or a sentence of bounded length", () => {
    const anyField = fc.oneof(
      fc.jsonValue(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.date({ noInvalidDate: true }).map(String),
    );
    const anyQuote = fc.record(
      {
        cost: fc.oneof(anyField, fc.nat(), fc.constant("0.5")),
        latencyMs: anyField,
        validUntil: anyField,
        terms: anyField,
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(anyQuote, fc.jsonValue()), (any) => {
        const quote = read(JSON.parse(JSON.stringify(any).toWellFormed()) as JsonValue);
        if (typeof quote === "string") expect(quote.length).toBeLessThan(256);
        else expect(Number.isSafeInteger(quote.costMicros) && quote.costMicros >= 0).toBe(true);
      }),
    );
  });
});
