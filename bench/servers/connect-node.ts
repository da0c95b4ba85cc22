/** The peer: gRPC as connect-node serves it, with nothing behind it. */
import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { announce } from "./announce.ts";

const server = createServer(
  connectNodeAdapter({
    connect: false,
    grpcWeb: false,
    routes: (router) => router.service(Health, { check: () => ({ status: Status.SERVING }) }),
  }),
);
server.listen(0, "127.0.0.1");
await once(server, "listening");
announce({ authority: `127.0.0.1:${(server.address() as AddressInfo).port}` });
