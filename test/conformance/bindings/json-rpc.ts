/** JSON-RPC 2.0 by fetch, as section 9 of the A2A specification describes it. */
import { type DescMethod, fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Binding, RpcError } from "./binding.ts";
import { readEvents } from "./server-sent-events.ts";

export const jsonRpc: Binding = {
  name: "JSON-RPC",
  services: [A2AService],
  codes: "json-rpc",
  connect({ httpUrl }) {
    let calls = 0;
    return {
      async *call({ method, request, headers, signal }) {
        const id = ++calls;
        const left = new AbortController();
        const response = await fetch(`${httpUrl}/rpc`, {
          method: "POST",
          headers: { "content-type": "application/json", ...headers },
          body: JSON.stringify({ jsonrpc: "2.0", id, method: method.name, params: request }),
          signal: AbortSignal.any([signal, left.signal]),
        });
        try {
          if (response.status !== 200) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
          if (response.headers.get("content-type") !== "text/event-stream") {
            yield read(method, id, (await response.json()) as JsonObject);
            return;
          }
          let isFirst = true;
          for await (const { data } of readEvents(response.body!)) {
            yield read(method, id, JSON.parse(data), isFirst);
            isFirst = false;
          }
        } finally {
          left.abort();
        }
      },
      close() {},
    };
  },
};

/** The result of a response. No error may be the first of a stream. */
function read(method: DescMethod, id: number, response: JsonObject, isFirstOfStream = false): JsonValue {
  const { jsonrpc, id: answered, result, error, ...others } = response;
  const isResponse = jsonrpc === "2.0" && answered === id && Object.keys(others).length === 0;
  if (!isResponse || (result === undefined) === (error === undefined)) {
    throw new Error(`no response to call ${id}: ${JSON.stringify(response)}`);
  }
  if (error === undefined) {
    const isNothing = method.output.typeName === EmptySchema.typeName && result === null;
    return isNothing ? {} : toJson(method.output, fromJson(method.output, result!));
  }
  if (isFirstOfStream) throw new Error(`the stream opened before the call was refused: ${JSON.stringify(error)}`);
  const { code, message, data, ...more } = error as { code: number; message: string; data: JsonObject[] };
  if (Object.keys(more).length > 0)
    throw new Error(`an error has only code, message and data: ${JSON.stringify(error)}`);
  throw new RpcError(String(code), message, data);
}
