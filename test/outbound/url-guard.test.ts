/** The guard in front of each thing that dials an address it was given: cards, agents, webhooks, token endpoints. */
import type { RequestListener } from "node:http";
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { AgentCredentialSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import type { GivenKind } from "../../src/domain/identity/agent-credential.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import { createProver } from "../../src/outbound/agent-proof.ts";
import { createCardFetcher } from "../../src/outbound/card-fetcher.ts";
import type { Lookup } from "../../src/outbound/url-guard.ts";
import { createWebhookSender } from "../../src/outbound/webhook.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { patiently, say } from "../agents/calling.ts";
import { cardOf, startRogueHttp, startRogueHttp2 } from "../agents/rogue-agent.ts";

const signal = new AbortController().signal;
const NAME = "agent.example.com";

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

/** A resolver that gives another answer each time, and the last one for ever. */
function resolver(...answers: string[][]): { lookup: Lookup; asked: number } {
  const made = {
    asked: 0,
    lookup: ((_host, _options, callback) => {
      const addresses = answers[Math.min(made.asked++, answers.length - 1)]!;
      const found = addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
      setImmediate(() => callback(null, found));
    }) as Lookup,
  };
  return made;
}

interface Dialler {
  name: string;
  /** Dials `http://NAME:port/`, whatever comes of it. */
  dial(port: number, options: { allowPrivateUrls: boolean; lookup: Lookup }): Promise<unknown>;
}

function connectorCall(binding: "GRPC" | "JSONRPC" | "HTTP+JSON"): Dialler["dial"] {
  return async (port, options) => {
    const connector = createAgentConnector(options);
    cleanUp.push(() => connector.close());
    const card = cardOf(binding, `http://${NAME}:${port}`);
    return connector.connect({ workspaceId: "w", agentId: "a", card }).send(say("x"), patiently(2_000));
  };
}

const DIALLERS: readonly Dialler[] = [
  {
    name: "a card",
    async dial(port, options) {
      const cards = createCardFetcher(options);
      cleanUp.push(() => cards.close());
      return cards.fetch(`http://${NAME}:${port}/card`, { signal });
    },
  },
  {
    name: "a webhook",
    async dial(port, options) {
      const sender = createWebhookSender(options);
      cleanUp.push(() => sender.close());
      return sender.post(`http://${NAME}:${port}/hook`, "{}", {}, { signal, timeoutMs: 2_000 });
    },
  },
  {
    name: "a token endpoint",
    async dial(port, options) {
      const client = { clientId: "c", clientSecret: "s", tokenUrl: `http://${NAME}:${port}/token` };
      const kind = create(AgentCredentialSchema, { kind: { case: "oauth2", value: client } }).kind as GivenKind;
      const credential = { kind, hosts: new Set(["agent:443"]) };
      const prover = createProver({ ...options, source: { of: () => credential }, runtime: systemRuntime() });
      cleanUp.push(() => prover.close());
      return prover.proof({ workspaceId: "w", agentId: "a" }, { host: "agent:443", isTls: true }, { signal });
    },
  },
  { name: "an agent over JSON-RPC", dial: connectorCall("JSONRPC") },
  { name: "an agent over HTTP+JSON", dial: connectorCall("HTTP+JSON") },
  { name: "an agent over gRPC", dial: connectorCall("GRPC") },
  {
    name: "the health check of an agent",
    async dial(port, options) {
      const connector = createAgentConnector(options);
      cleanUp.push(() => connector.close());
      const card = cardOf("GRPC", `http://${NAME}:${port}`);
      return connector.probe({ workspaceId: "w", agentId: "a", card }, { signal, timeoutMs: 2_000 });
    },
  },
];

/** What listens at 127.0.0.1, and counts who comes. */
async function listener(name: string) {
  const rogue = /gRPC|health/.test(name)
    ? await startRogueHttp2((stream) => stream.respond({ ":status": 500 }, { endStream: true }))
    : await startRogueHttp(((_request, response) => response.writeHead(500).end()) as RequestListener);
  cleanUp.push(() => rogue.close());
  return rogue;
}

const settled = (work: Promise<unknown>) =>
  work.then(
    () => "",
    (error: Error) => `${error.message} ${(error.cause as Error | undefined)?.message ?? ""}`,
  );

describe.each(DIALLERS)("$name", ({ name, dial }) => {
  async function dialled(allowPrivateUrls: boolean, ...answers: string[][]) {
    const rogue = await listener(name);
    let came = 0;
    const { add } = rogue.sockets;
    rogue.sockets.add = (socket) => {
      came += 1;
      return add.call(rogue.sockets, socket);
    };
    const names = resolver(...answers);
    const said = await settled(dial(rogue.port, { allowPrivateUrls, lookup: names.lookup }));
    return { said, asked: names.asked, sockets: came };
  }

  test("is not dialled where its name leads to a private address, alone or among public ones", async () => {
    for (const answer of [
      ["127.0.0.1"],
      ["203.0.113.1", "127.0.0.1"],
      ["8.8.8.8", "::ffff:127.0.0.1"],
      ["169.254.169.254"],
    ]) {
      const { said, sockets } = await dialled(false, answer);
      expect(said, answer.join()).not.toBe("");
      expect(sockets).toBe(0);
    }
  });

  test("is dialled at the address that was looked at: the name is asked for once", async () => {
    const { asked, sockets } = await dialled(true, ["127.0.0.1"], ["127.0.0.2"]);
    expect(asked).toBe(1);
    expect(sockets).toBeGreaterThan(0);
  });
});

test("a redirect to a private address is not followed", async () => {
  const reached: string[] = [];
  const rogue = await startRogueHttp((request, response) => {
    reached.push(request.headers.host!);
    response.writeHead(302, { location: `http://inside.example.com:${rogue.port}/` }).end();
  });
  cleanUp.push(() => rogue.close());
  // That the first may be reached at all, it is at a private address that the second name does not have.
  const lookup: Lookup = (host, _options, callback) =>
    callback(null, [{ address: host === NAME ? "127.0.0.1" : "169.254.169.254", family: 4 }]);
  const cards = createCardFetcher({ allowPrivateUrls: true, lookup, timeoutMs: 300 });
  cleanUp.push(() => cards.close());
  for (const location of [
    "http://169.254.169.254/",
    "http://[::ffff:10.0.0.1]/",
    "http://2130706433/",
    "file:///etc/passwd",
  ]) {
    const strict = createCardFetcher({ allowPrivateUrls: false, lookup });
    cleanUp.push(() => strict.close());
    await expect(strict.fetch(location, { signal })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  }
  await expect(cards.fetch(`http://${NAME}:${rogue.port}/`, { signal })).rejects.toThrow();
  expect(reached).toEqual([`${NAME}:${rogue.port}`]);
});
