/**
 * Signalbox between clients and agents of @a2a-js/sdk: a server, an agent behind it for each outbound binding, and a tap
 * on the wire to the clients, which shows that no id of an agent came through.
 */
import type { Client } from "@a2a-js/sdk/client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Binding, startTestAgent, type TestAgent, type TestAgentOptions } from "../agents/test-agent.ts";
import { startTestApp, type TestApp, type TestAppOptions } from "../e2e/running-app.ts";
import { BACKENDS } from "../store/backends.ts";
import { connect, TRANSPORTS, type TransportName } from "./a2a-js-client.ts";
import { startWireTap } from "./wire-tap.ts";

export const BINDINGS: readonly Binding[] = ["GRPC", "JSONRPC", "HTTP+JSON"];

export interface LabOptions {
  /** Where the server's database is. Default: PostgreSQL. */
  backend?: TestAppOptions["backend"];
  /** Settings of the server. */
  flags?: Readonly<Record<string, string>>;
  /** What the agents can do. */
  agent?: TestAgentOptions;
}

export interface Lab {
  readonly app: TestApp;
  /** The address that the cards advertise: the tap's. */
  readonly url: string;
  /** The agent that the router reaches over this binding. */
  agent(binding: Binding): TestAgent;
  /** A client of that agent, which knows nothing but the address of its card. */
  client(transport: TransportName, binding: Binding): Promise<Client>;
  /** The ids of agents that any client was sent. */
  leaks(): string[];
  stop(): Promise<void>;
}

const idOf = (binding: Binding): string => `over-${binding.toLowerCase().replace("+", "-")}`;

export async function startLab({ backend, flags = {}, agent: options = {} }: LabOptions = {}): Promise<Lab> {
  const [http, grpc] = await Promise.all([startWireTap(), startWireTap()]);
  const url = `http://${http.address}`;
  const app = await startTestApp({
    backend,
    // Long enough for an agent that is not silent, however busy the machine is.
    flags: { "task.silence-ms": "20000", ...flags, "public.url": url, "public.grpc": grpc.address },
  });
  http.lead(app.httpUrl);
  grpc.lead(app.grpcAddress);
  const agents = new Map<Binding, TestAgent>();
  for (const binding of BINDINGS) {
    const agent = await startTestAgent({ ...options, name: `Agent over ${binding}`, bindings: [binding] });
    agents.set(binding, agent);
    await app.register(idOf(binding), { cardUrl: agent.cardUrl });
  }
  return {
    app,
    url,
    agent: (binding) => agents.get(binding)!,
    client: (transport, binding) => connect(`${url}/agents/${idOf(binding)}`, transport),
    leaks() {
      // Nothing proves nothing.
      if (http.size === 0 || grpc.size === 0) throw new Error("A tap is not on the wire.");
      const ids = [...agents.values()].flatMap((agent) => [...agent.ids]);
      return [...http.carried(ids), ...grpc.carried(ids)];
    },
    async stop() {
      await app.stop();
      for (const agent of agents.values()) await agent.close();
      await Promise.all([http.close(), grpc.close()]);
    },
  };
}

/** One way from a client to an agent. */
export interface Way {
  readonly lab: Lab;
  readonly transport: TransportName;
  readonly binding: Binding;
  readonly client: Client;
  readonly agent: TestAgent;
}

/** On PGlite each transport of the client meets each binding of an agent; on PostgreSQL each of them comes once. */
const WAYS = {
  pglite: TRANSPORTS.flatMap((transport) => BINDINGS.map((binding) => [transport, binding] as const)),
  postgres: TRANSPORTS.map((transport, i) => [transport, BINDINGS[i]!] as const),
};

/** Runs the suite over every way. What the suite gets is there in tests and hooks only. */
export function describeEveryWay(name: string, options: LabOptions, suite: (way: Way) => void): void {
  describe.each(BACKENDS)(`${name} on %s`, (backend) => {
    let lab: Lab | undefined;
    beforeAll(async () => {
      lab = await startLab({ ...options, backend });
    });
    afterAll(() => lab?.stop());

    describe.each(WAYS[backend])("a client over %s, an agent over %s", (transport, binding) => {
      let client: Client;
      beforeAll(async () => {
        client = await lab!.client(transport, binding);
        expect(client.transport.protocolName).toBe(transport);
      });
      suite({
        transport,
        binding,
        get lab() {
          return lab!;
        },
        get client() {
          return client;
        },
        get agent() {
          return lab!.agent(binding);
        },
      });
    });

    test("no id of an agent has reached a client", () => expect(lab!.leaks()).toEqual([]));
  });
}
