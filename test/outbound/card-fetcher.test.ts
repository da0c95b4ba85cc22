import type { RequestListener } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { SignalboxError } from "../../src/domain/errors.ts";
import { type CardFetcherOptions, createCardFetcher } from "../../src/outbound/card-fetcher.ts";
import { freePort, startRogueHttp } from "../agents/rogue-agent.ts";
import { startTestAgent } from "../agents/test-agent.ts";

const CARD = {
  name: "n",
  description: "d",
  version: "1",
  capabilities: {},
  supportedInterfaces: [{ url: "http://x", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  skills: [],
};
const signal = new AbortController().signal;

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

function fetcher(options: Partial<CardFetcherOptions> = {}) {
  const made = createCardFetcher({ allowPrivateUrls: true, ...options });
  cleanUp.push(() => made.close());
  return made;
}

async function serve(listener: RequestListener): Promise<string> {
  const server = await startRogueHttp(listener);
  cleanUp.push(() => server.close());
  return `http://127.0.0.1:${server.port}/card`;
}

const serveBody = (body: string) => serve((_request, response) => response.end(body));

async function refusalOf(fetched: Promise<unknown>): Promise<SignalboxError> {
  const error = await fetched.then(
    () => new Error("nothing failed"),
    (failure) => failure,
  );
  if (!(error instanceof SignalboxError)) throw error;
  return error;
}

describe("createCardFetcher", () => {
  test("fetches the card of a real agent, and learns that it has not changed", async () => {
    const agent = await startTestAgent();
    cleanUp.push(() => agent.close());
    const cards = fetcher();
    const found = await cards.fetch(agent.cardUrl, { signal });
    expect(found?.card.name).toBe("Test agent");
    expect(found?.etag).toBeTruthy();
    expect(await cards.fetch(agent.cardUrl, { signal, etag: found!.etag! })).toBeUndefined();
  });

  test("asks by date where there is no ETag, and by the ETag alone where there is one", async () => {
    const asked: (string | undefined)[][] = [];
    const modified = "Wed, 25 Nov 2026 20:00:00 GMT";
    const url = await serve(({ headers }, response) => {
      asked.push([headers["if-none-match"], headers["if-modified-since"]]);
      const isKnown = headers["if-modified-since"] === modified;
      response.writeHead(isKnown ? 304 : 200, { "last-modified": modified }).end(isKnown ? "" : JSON.stringify(CARD));
    });
    const cards = fetcher();
    const found = await cards.fetch(url, { signal });
    expect(found).toMatchObject({ modified });
    expect(found).not.toHaveProperty("etag");
    expect(await cards.fetch(url, { signal, modified })).toBeUndefined();
    expect(await cards.fetch(url, { signal, etag: '"1"', modified })).toBeDefined();
    expect(asked).toEqual([
      [undefined, undefined],
      [undefined, modified],
      ['"1"', undefined],
    ]);
  });

  test("ignores what it does not know", async () => {
    const url = await serveBody(JSON.stringify({ ...CARD, later: { x: 1 } }));
    expect((await fetcher().fetch(url, { signal }))?.card.version).toBe("1");
  });

  test.each([
    ["no name", { name: "" }, "card.name"],
    ["no interface", { supportedInterfaces: [] }, "card.supportedInterfaces"],
    [
      "an interface without a version",
      { supportedInterfaces: [{ url: "x", protocolBinding: "GRPC" }] },
      "card.supportedInterfaces[0].protocolVersion",
    ],
    ["no capabilities", { capabilities: undefined }, "card.capabilities"],
    ["a skill without a name", { skills: [{ id: "s", description: "d" }] }, "card.skills[0].name"],
    ["a wrong type", { skills: 7 }, "card"],
    ["the shape of 0.3", { supportedInterfaces: undefined, url: "http://x" }, "card.supportedInterfaces"],
  ])("a card with %s is refused, and the field named", async (_name, change, field) => {
    const url = await serveBody(JSON.stringify({ ...CARD, ...change }));
    const error = await refusalOf(fetcher().fetch(url, { signal }));
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.violations.map((violation) => violation.field)).toEqual([field]);
  });

  test.each(["<html></html>", "", "[]", "{", "x".repeat(2000)])("%j is no card", async (body) => {
    const error = await refusalOf(fetcher({ maxBytes: 1000 }).fetch(await serveBody(body), { signal }));
    expect(error.code).toBe("INVALID_ARGUMENT");
  });

  test("what cannot be had is unavailable", async () => {
    const cards = fetcher({ timeoutMs: 100 });
    const urls = [
      await serve((_request, response) => response.writeHead(404).end()),
      await serve((_request, response) => response.destroy()),
      await serve(() => {}),
      `http://127.0.0.1:${await freePort()}/`,
    ];
    for (const url of urls) {
      const error = await refusalOf(cards.fetch(url, { signal }));
      expect(error).toMatchObject({ code: "UNAVAILABLE", reason: "CARD_UNAVAILABLE" });
    }
  });

  test("follows three redirects, and no more", async () => {
    let redirects = 3;
    const url = await serve((_request, response) => {
      if (redirects-- > 0) response.writeHead(302, { location: "/elsewhere" }).end();
      else response.end(JSON.stringify(CARD));
    });
    expect((await fetcher().fetch(url, { signal }))?.card.name).toBe("n");
    redirects = 4;
    expect((await refusalOf(fetcher().fetch(url, { signal }))).message).toContain("redirected");
  });

  test("refuses addresses that are not allowed, before and behind redirects", async () => {
    const strict = fetcher({ allowPrivateUrls: false });
    const error = await refusalOf(strict.fetch("http://127.0.0.1:1/", { signal }));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining("allow-private-urls") });
    const url = await serve((_request, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end());
    expect((await refusalOf(fetcher().fetch(url, { signal }))).code).toBe("INVALID_ARGUMENT");
  });

  test("ends with its signal", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const fetched = fetcher().fetch(await serve(() => controller.abort(reason)), { signal: controller.signal });
    await expect(fetched).rejects.toBe(reason);
  });
});
