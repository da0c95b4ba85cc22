/**
 * One suite of cases through every binding, on one server. Each case must give in each binding what it says it gives, and
 * in all of them the same: equal results, and errors with equal messages and details under each binding's own code.
 */
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { toJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { type Binding, RpcError } from "./bindings/binding.ts";
import { createConnectBindings } from "./bindings/connect.ts";
import { createGrpcJsBinding } from "./bindings/grpc-js.ts";
import { createHttpJsonBinding } from "./bindings/http-json.ts";
import { createJsonRpcBinding } from "./bindings/json-rpc.ts";
import { type CallStep, type ConformanceCase, type ExpectedError, methodOf, readCaseFiles } from "./case-file.ts";
import { bindingCode } from "./error-codes.ts";
import { mismatches, normalize, substitute, valueAt } from "./match.ts";
import { agentCards, handlers } from "./scripted-agents.ts";
