/** Keys that are fetched from addresses which somebody gave us: bounded, guarded, and from nowhere else. */
import type { RequestListener } from "node:http";
import { afterEach, expect, test } from "vitest";
import { type CardKeyFetcherOptions, createCardKeyFetcher } from "../../src/outbound/card-key-fetcher.ts";
import { freePort, startRogueHttp } from "../agents/rogue-agent.ts";

const signal = new AbortController().signal;

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

function fetcher(options: Partial<CardKeyFetcherOptions> = {}) {
  const made = createCardKeyFetcher({ allowPrivateUrls: true, ...options });
  cleanUp.push(() => made.close());
  return made;
}

async function serve(listener: RequestListener): Promise<string> {
  const server = await startRogueHttp(listener);
  cleanUp.push(() => server.close());
  return `http://127.0.0.1:${server.port}/jwks.json`;
}

const unavailable = (words: string) =>
  expect.objectContaining({ code: "UNAVAILABLE", reason: "KEYS_UNAVAILABLE", message: expect.stringContaining(words) });

test("gives what is there", async () => {
  const url = await serve((_, res) => res.end('{"keys":[]}'));
  expect(await fetcher().fetch(url, { signal })).toEqual({ keys: [] });
});

test("follows no redirect, to its own host or to another", async () => {
  const elsewhere: string[] = [];
  const other = await serve((req, res) => {
    elsewhere.push(req.url ?? "");
    res.end('{"keys":[]}');
  });
  for (const location of [other, "/jwks2.json"]) {
    const url = await serve((_, res) => res.writeHead(302, { location }).end());
    await expect(fetcher().fetch(url, { signal })).rejects.toEqual(unavailable("HTTP 302"));
  }
  expect(elsewhere).toEqual([]);
});

test.each<[string, RequestListener, string]>([
  ["too much", (_, res) => res.end(`{"keys":[],"x":"${"x".repeat(2_000)}"}`), "more than 1000 bytes"],
  ["no JSON", (_, res) => res.end("<html>"), "no JSON"],
  ["nothing", () => {}, "no keys within 200 ms"],
  ["half of it", (_, res) => void res.write('{"keys"'), "no keys within 200 ms"],
  ["an error", (_, res) => res.writeHead(500).end(), "HTTP 500"],
])("fails on a server that answers %s", async (_, listener, words) => {
  const url = await serve(listener);
  await expect(fetcher({ maxBytes: 1_000, timeoutMs: 200 }).fetch(url, { signal })).rejects.toEqual(unavailable(words));
});

test("fails where nobody is there, and where the caller has left", async () => {
  const url = `http://127.0.0.1:${await freePort()}/jwks.json`;
  await expect(fetcher().fetch(url, { signal })).rejects.toEqual(unavailable("ECONNREFUSED"));
  const left = new Error("left");
  await expect(fetcher().fetch(url, { signal: AbortSignal.abort(left) })).rejects.toBe(left);
});

test.each([
  "http://127.0.0.1/k",
  "http://[::ffff:127.0.0.1]/k",
  "http://2130706433/k",
  "http://localhost/k",
  "file:///k",
])("does not go to %s where private addresses are not allowed", async (url) => {
  const refused = expect.objectContaining({ code: "INVALID_ARGUMENT" });
  await expect(fetcher({ allowPrivateUrls: false }).fetch(url, { signal })).rejects.toEqual(refused);
});

test("does not go to a name that leads to a private address", async () => {
  const lookup: NonNullable<CardKeyFetcherOptions["lookup"]> = (_, __, callback) =>
    callback(null, [{ address: "169.254.169.254", family: 4 }]);
  const fetching = fetcher({ allowPrivateUrls: false, lookup }).fetch("http://metadata.example.com/k", { signal });
  await expect(fetching).rejects.toEqual(unavailable("ADDRESS_REFUSED"));
});
