/** What a load generator sends, and how much of it at once. */

/** Connections at most over HTTP/2. HTTP/1.1 has one for each call in flight. */
export const CONNECTIONS = 8;

export interface LoadRequest {
  /** `host:port`. */
  authority: string;
  path: string;
  /** gRPC over HTTP/2, or JSON over HTTP/1.1. */
  protocol: "grpc" | "json";
  /** Further headers. */
  headers?: Readonly<Record<string, string>>;
  /** Headers that each call has for itself. Only the client in this process makes them. */
  headersOf?: (body: Uint8Array) => Readonly<Record<string, string>>;
  /** For TLS: whom to trust, and what to show. Only the client in this process does. */
  tls?: { ca: string; cert?: string; key?: string };
  /** The connections take turns with them: one for all, or as many as there are connections. */
  bodies: readonly Uint8Array[];
}

export interface LoadShape {
  /** Calls at once. Over HTTP/2 a multiple of `CONNECTIONS`, or less. */
  inFlight: number;
  durationMs: number;
}

/** How many connections carry so many calls, and how many each has at once. */
export function connectionsFor({ protocol }: LoadRequest, inFlight: number): { connections: number; streams: number } {
  if (protocol === "json") return { connections: inFlight, streams: 1 };
  const connections = Math.min(CONNECTIONS, inFlight);
  return { connections, streams: inFlight / connections };
}

export function headersOf({ protocol, headers }: LoadRequest): Record<string, string> {
  const own: Record<string, string> =
    protocol === "grpc"
      ? { "content-type": "application/grpc", te: "trailers" }
      : { "content-type": "application/json" };
  return { ...own, ...headers };
}
