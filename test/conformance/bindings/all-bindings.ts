/** Every way to call the server. */
import type { Binding } from "./binding.ts";
import { connectInBinary, connectInJson, grpcAtHttpPort, grpcWeb } from "./connect.ts";
import { grpcJs } from "./grpc-js.ts";
import { httpJson } from "./http-json.ts";
import { jsonRpc } from "./json-rpc.ts";

export const BINDINGS: readonly Binding[] = [
  grpcJs,
  grpcAtHttpPort,
  connectInJson,
  connectInBinary,
  grpcWeb,
  httpJson,
  jsonRpc,
];
