/** From an agent's card to a client: picks the interface, makes the binding, keeps the connections. */
import type { Agent } from "undici";
import type { AgentCard, AgentInterface } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { clip } from "../domain/errors.ts";
import { createAbortGroup } from "../services/abort-group.ts";
import {
  AgentCallError,
  type AgentClient,
  type AgentConnector,
  type AgentPlace,
  type AgentProber,
} from "../services/agent-port.ts";
import { beginCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";
import { createAgentClient } from "./agent-client.ts";
import { type Probe, probeGrpc, probeHttp } from "./agent-probe.ts";
import { destinationOf, type Prover, type TlsIdentity, type Way } from "./agent-proof.ts";
import { createGrpcChannel } from "./grpc-channel.ts";
import { createHttpConnections } from "./http-connections.ts";
import { createHttpJsonChannel } from "./http-json-channel.ts";
import { type AgentHandler, createInProcessChannel } from "./in-process-channel.ts";
import { createJsonRpcChannel } from "./json-rpc-channel.ts";
import { createProvenChannel, provenCall } from "./proven-channel.ts";
import { createUrlGuard, type UrlGuard, type UrlGuardOptions, withinOwnNetwork } from "./url-guard.ts";

export interface AgentConnectorOptions extends UrlGuardOptions {
  /** What the router proves itself with to agents; left out: nothing. */
  prover?: Prover | undefined;
  /** The largest single message, or event of a stream, that is taken from an agent. Default 4 MiB. */
  maxMessageBytes?: number;
  /** Agents in this process by name: an interface with binding `IN-PROCESS` and url `in-process:<name>` reaches them. */
  inProcess?: ReadonlyMap<string, AgentHandler>;
}

/**
 * A kind of interface: how its url is checked, how a channel to it is made, and how it is asked whether somebody is there. All
 * throw when the url will not do.
 */
interface Binding {
  check(url: string): unknown;
  open(url: string, way: Way): AgentChannel;
  probe: Probe;
}

interface Connection {
  /** The cards that lead to it: of one agent there are several, where it is lent. */
  cards: WeakSet<AgentCard>;
  /** What of the card the client was made from. */
  key: string;
  client: Omit<AgentClient, "release">;
  channel: AgentChannel;
  /** Clients that are held. A connection that was given up ends with the last of them. */
  held: number;
  givenUp: boolean;
}

export function createAgentConnector(options: AgentConnectorOptions): AgentConnector & AgentProber {
  const { maxMessageBytes = 4 * 1024 * 1024, inProcess = new Map<string, AgentHandler>(), prover } = options;
  const guard = createUrlGuard(options);
  const http = createHttpConnections(guard);
  const shutdown = createAbortGroup();
  const connections = new Map<string, Connection>();
  const retired = new Set<Connection>();

  const own = withinOwnNetwork(guard);
  const ownHttp = createHttpConnections(own);

  const guardOf = (way: Way): UrlGuard => (way === "own-network" ? own : guard);
  const identityOf = (way: Way): TlsIdentity | undefined => (typeof way === "string" ? undefined : way);

  /** A channel over the connections of a way. Those of a certificate are its own, and end with it. */
  function overHttp(way: Way, open: (connections: Agent) => AgentChannel): AgentChannel {
    if (typeof way === "string") return open(way === "any" ? http : ownHttp);
    const connections = createHttpConnections(guard, way);
    return { ...open(connections), close: () => void connections.close() };
  }

  const probeOverHttp: Probe = async (url, call, way) => {
    if (typeof way === "string") return probeHttp(way === "any" ? http : ownHttp, url, call);
    const connections = createHttpConnections(guard, way);
    return probeHttp(connections, url, call).finally(() => connections.destroy());
  };
  const bindings: Record<string, Binding> = {
    GRPC: {
      check: (url) => guard.checkTarget(url, "url"),
      open: (url, way) =>
        createGrpcChannel(guardOf(way), guard.checkTarget(url, "url"), maxMessageBytes, identityOf(way)),
      probe: (url, call, way) => probeGrpc(guardOf(way), guard.checkTarget(url, "url"), call, identityOf(way)),
    },
    JSONRPC: {
      check: (url) => guard.checkUrl(url, "url"),
      open: (url, way) => overHttp(way, (connections) => createJsonRpcChannel(connections, url, maxMessageBytes)),
      probe: probeOverHttp,
    },
    "HTTP+JSON": {
      check: (url) => guard.checkUrl(url, "url"),
      open: (url, way) => overHttp(way, (connections) => createHttpJsonChannel(connections, url, maxMessageBytes)),
      probe: probeOverHttp,
    },
    "IN-PROCESS": {
      check: handlerAt,
      open: (url) => createInProcessChannel(handlerAt(url)),
      probe: async (url) => void handlerAt(url),
    },
  };

  function openChannel(place: AgentPlace, { protocolBinding, url }: AgentInterface): AgentChannel {
    const binding = bindings[protocolBinding.toUpperCase()]!;
    const open = (way: Way) => binding.open(url, way);
    // An agent in this process need not be told who calls it.
    if (!prover || protocolBinding.toUpperCase() === "IN-PROCESS") return open("any");
    return createProvenChannel({ prover, place, to: destinationOf(guard, protocolBinding, url), open });
  }

  function handlerAt(url: string): AgentHandler {
    const handler = url.startsWith("in-process:") ? inProcess.get(url.slice("in-process:".length)) : undefined;
    if (!handler) throw new Error(`there is no agent "${clip(url)}" in this process`);
    return handler;
  }

  /** Why an interface cannot be called; undefined when it can. */
  function fault({ url, protocolBinding, protocolVersion }: AgentInterface): Fault | undefined {
    const binding = bindings[protocolBinding.toUpperCase()];
    if (!binding) return { why: "this router does not speak the binding", isOfAddress: false };
    if (!/^1(\.\d+)*$/.test(protocolVersion)) return { why: "this router speaks A2A 1.x", isOfAddress: false };
    try {
      binding.check(url);
      return undefined;
    } catch (error) {
      return { why: (error as Error).message, isOfAddress: true };
    }
  }

  const pick = (card: AgentCard) => card.supportedInterfaces.find((offered) => fault(offered) === undefined);

  /** New calls make a new connection; tasks that hold this one go on with it. */
  function giveUp(connection: Connection | undefined): void {
    if (!connection) return;
    connection.givenUp = true;
    retired.add(connection);
    closeUnheld(connection);
  }

  function closeUnheld(connection: Connection): void {
    if (!connection.givenUp || connection.held > 0) return;
    retired.delete(connection);
    connection.channel.close();
  }

  function hold(connection: Connection): AgentClient {
    connection.held += 1;
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      connection.held -= 1;
      closeUnheld(connection);
    };
    return { ...connection.client, release };
  }

  return {
    pick,

    connect({ card, ...agent }) {
      const home = agent.home ?? agent;
      const place = placeOf(home);
      const known = connections.get(place);
      if (known?.cards.has(card)) return hold(known);

      const chosen = pick(card);
      if (!chosen) throw noInterface(card, fault);
      const streaming = card.capabilities?.streaming === true;
      const key = JSON.stringify([chosen.protocolBinding, chosen.url, chosen.tenant, streaming]);
      // A card that was read anew is another object, but mostly the same agent.
      if (known?.key === key) {
        known.cards.add(card);
        return hold(known);
      }
      giveUp(known);
      const channel = openChannel(home, chosen);
      const client = createAgentClient(channel, { streaming, tenant: chosen.tenant, shutdown });
      const connection = { cards: new WeakSet([card]), key, client, channel, held: 0, givenUp: false };
      connections.set(place, connection);
      return hold(connection);
    },

    async probe({ card, ...agent }, options) {
      const chosen = pick(card);
      if (!chosen) throw noInterface(card, fault);
      const call = beginCall("the health check", options, shutdown);
      try {
        call.throwIfEnded();
        const { protocolBinding, url } = chosen;
        const isProven = prover !== undefined && protocolBinding.toUpperCase() !== "IN-PROCESS";
        const place = agent.home ?? agent;
        const proof = isProven
          ? await provenCall({ prover, place, to: destinationOf(guard, protocolBinding, url) }, call)
          : undefined;
        await bindings[protocolBinding.toUpperCase()]!.probe(url, call, proof?.way ?? "any");
      } finally {
        call.end();
      }
    },

    forget(workspaceId, agentId) {
      const place = placeOf({ workspaceId, agentId });
      giveUp(connections.get(place));
      connections.delete(place);
    },

    async close() {
      shutdown.abort(new AgentCallError("broken", "The router stopped during the call."));
      for (const { channel } of [...connections.values(), ...retired]) channel.close();
      connections.clear();
      retired.clear();
      await Promise.all([http.destroy(), ownHttp.destroy()]);
    },
  };
}

const placeOf = ({ workspaceId, agentId }: AgentPlace): string => `${workspaceId}/${agentId}`;

/** What is wrong with an interface. Of its address only those learn it who read the log. */
interface Fault {
  readonly why: string;
  readonly isOfAddress: boolean;
}

const NO_INTERFACE = "The agent's card offers no interface that this router can call.";
const NO_ADDRESS =
  "The agent's address is none that this router calls. Private and local ones it calls only with allow-private-urls.";

function noInterface(card: AgentCard, fault: (offered: AgentInterface) => Fault | undefined): AgentCallError {
  const faults = card.supportedInterfaces.map((offered) => ({ offered, fault: fault(offered) }));
  const texts = faults.map(
    ({ offered, fault: of }) => `${clip(offered.protocolBinding)} ${clip(offered.protocolVersion)}: ${of?.why}`,
  );
  const cause = new Error(texts.join("; ") || "the card lists no interface");
  const text = faults.some(({ fault: of }) => of?.isOfAddress) ? NO_ADDRESS : NO_INTERFACE;
  return new AgentCallError("unreachable", text, { cause });
}
