/** Addresses of NATS servers, as `nats.url` has them, and whether one speaks NATS at all. */
import { once } from "node:events";
import { connect } from "node:net";
import type { NodeConnectionOptions } from "@nats-io/transport-node";

const DEFAULT_PORT = 4222;

export interface NatsAddress {
  readonly host: string;
  readonly port: number;
  /** `host:port`, fit for logs: who connects is not in it. */
  readonly name: string;
  /** Who connects, and whether by TLS alone. */
  readonly options: Pick<NodeConnectionOptions, "user" | "pass" | "token" | "tls">;
}

/**
 * Addresses such as `nats://host:4222`, separated by commas. `tls://` connects by TLS alone, also where a server would do without.
 * `user:password@` before the host says who connects, and a name without a password is a token; what has a meaning in an
 * address is percent-encoded.
 */
export function readNatsAddresses(given: string): NatsAddress[] {
  return given.split(",").map((each) => readAddress(new URL(each.trim())));
}

function readAddress({ protocol, hostname, port, username, password }: URL): NatsAddress {
  const host = hostname.replace(/^\[|\]$/g, "");
  const who = decodeURIComponent(username);
  const login = password === "" ? who !== "" && { token: who } : { user: who, pass: decodeURIComponent(password) };
  // The host is what the certificate must be for; the client itself says so for names alone, not for addresses.
  const tls = protocol === "tls:" && { tls: { host } as NodeConnectionOptions["tls"] };
  const number = port === "" ? DEFAULT_PORT : Number(port);
  return { host, port: number, name: `${hostname}:${number}`, options: { ...login, ...tls } as NatsAddress["options"] };
}

/**
 * Waits until a server greets as those of NATS do, and hangs up. The client leaves the socket open for ever to a server that
 * says nothing, such as a proxy with nobody behind it, so it is not sent to one.
 */
export async function awaitGreeting(
  { host, port }: NatsAddress,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const socket = connect({ host, port });
  const leave = () => void socket.destroy(new Error("it was given up"));
  signal.addEventListener("abort", leave, { once: true });
  socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)));
  socket.on("end", () => socket.destroy(new Error("it hung up")));
  // Also when nobody waits for it any more.
  socket.on("error", () => {});
  try {
    const [said] = (await once(socket, "data")) as [Buffer];
    if (!said.toString("latin1", 0, 5).startsWith("INFO ".slice(0, said.length))) {
      throw new Error("what answers there is no NATS");
    }
  } finally {
    signal.removeEventListener("abort", leave);
    socket.destroy();
  }
}
