/** A channel whose calls carry what their agent's credential says, over connections that it may go over. */
import type { AgentPlace } from "../services/agent-port.ts";
import type { AgentCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";
import type { Destination, Proof, Prover, Way } from "./agent-proof.ts";

export interface ProvenChannelInit {
  prover: Prover;
  place: AgentPlace;
  to: Destination;
  open(way: Way): AgentChannel;
}

/** Proves who calls, where the agent has a credential; undefined where it has none. `call` waits no longer than it would. */
export function provenCall(
  { prover, place, to }: Omit<ProvenChannelInit, "open">,
  call: AgentCall,
): Proof | undefined | Promise<Proof | undefined> {
  const proof = prover.proof(place, to, call);
  if (!(proof instanceof Promise)) {
    call.proof = proof;
    return proof;
  }
  // The agent has been asked nothing yet: that it says nothing is not its fault.
  call.rest();
  return proof.then((had) => {
    call.throwIfEnded();
    call.expect();
    call.proof = had;
    return had;
  });
}

export function createProvenChannel(init: ProvenChannelInit): AgentChannel {
  const { open } = init;
  const plain = open("any");
  let ownNetwork: AgentChannel | undefined;
  let ofCertificate: { way: Way; channel: AgentChannel } | undefined;
  let closed = false;

  function over(way: Way): AgentChannel {
    if (way === "any") return plain;
    if (way === "own-network") {
      ownNetwork ??= opened(way);
      return ownNetwork;
    }
    if (ofCertificate?.way !== way) {
      // Calls that run over the old one go on.
      ofCertificate?.channel.close();
      ofCertificate = { way, channel: opened(way) };
    }
    return ofCertificate.channel;
  }

  function opened(way: Way): AgentChannel {
    const channel = open(way);
    if (closed) channel.close();
    return channel;
  }

  /** Whether a call that failed is worth one more: its agent said that it does not know who called, so it did nothing. */
  function isWorthAnother(call: AgentCall): boolean {
    if (!call.isUnknownCaller || !call.proof?.wasRefused()) return false;
    call.isUnknownCaller = false;
    return true;
  }

  return {
    unary(rpc, request, call) {
      const proof = provenCall(init, call);
      if (proof === undefined) return plain.unary(rpc, request, call);
      const send = async (had: Proof | undefined) => over(had?.way ?? "any").unary(rpc, request, call);
      const first = proof instanceof Promise ? proof.then(send) : send(proof);
      return first.catch(async (error: unknown) => {
        if (!isWorthAnother(call)) throw error;
        return send(await provenCall(init, call));
      });
    },

    stream(rpc, request, call) {
      const proof = provenCall(init, call);
      if (proof === undefined) return plain.stream(rpc, request, call);
      return (async function* () {
        let isBegun = false;
        try {
          const had = await proof;
          for await (const item of over(had?.way ?? "any").stream(rpc, request, call)) {
            isBegun = true;
            yield item;
          }
          return;
        } catch (error) {
          if (isBegun || !isWorthAnother(call)) throw error;
        }
        const had = await provenCall(init, call);
        yield* over(had?.way ?? "any").stream(rpc, request, call);
      })();
    },

    close() {
      closed = true;
      for (const channel of [plain, ownNetwork, ofCertificate?.channel]) channel?.close();
    },
  };
}
