/** The YAML files of `cases/`: what they may hold, and how they are read. `cases/README.md` explains them to writers. */
import { readdirSync, readFileSync } from "node:fs";
import type { DescMethod } from "@bufbuild/protobuf";
import { parse } from "yaml";
import { z } from "zod";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { CacheService } from "../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../gen/signalbox/v1/message_pb.ts";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { RolloutService } from "../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";

const SERVICES = [
  A2AService,
  RegistryService,
  TaskService,
  RoutingService,
  RolloutService,
  MessageService,
  CacheService,
];
/** By their names, and with that of the service: where two have the same name, the bare one is the standard's. */
const methods = new Map(
  SERVICES.toReversed().flatMap((s) =>
    s.methods.flatMap((m) => [[m.name, m] as const, [`${s.name}/${m.name}`, m] as const]),
  ),
);

const json = z.record(z.string(), z.json());

const expectedError = z.strictObject({
  /** Name of a google.rpc.Code. */
  code: z.string(),
  reason: z.string(),
  domain: z.enum(["a2a-protocol.org", "signalbox"]),
  /** Metadata of the ErrorInfo that must be there, at least. */
  metadata: json.default({}),
  /** The fields that the BadRequest names, in order: these and no others. */
  fields: z.array(z.string()).default([]),
  /** Whether a RetryInfo must be there. */
  retry: z.boolean().default(false),
});

const callStep = z
  .strictObject({
    rpc: z.string().refine((name) => methods.has(name), "no RPC is called so"),
    request: json.default({}),
    headers: z.record(z.string(), z.string()).default({}),
    /** Names the stream and leaves it open after its `items`, for a `rest` step. */
    as: z.string().optional(),
    /** The answer of a unary RPC. */
    result: json.optional(),
    /** The items of a stream, in order. */
    items: z.array(json).optional(),
    error: expectedError.optional(),
    /** Variables for later steps: a path into the answer each. */
    capture: z.record(z.string(), z.string()).default({}),
  })
  .refine(({ result, items, error }) => (result ?? items ?? error) !== undefined, "expects nothing");

const restStep = z.strictObject({
  /** A stream that was left open: what it says from here to its end. */
  rest: z.string(),
  items: z.array(json),
});

const conformanceCase = z.strictObject({
  name: z.string(),
  /** Bindings that cannot even ask this, and why. */
  except: z.record(z.string(), z.string()).default({}),
  steps: z.array(z.union([callStep, restStep])).min(1),
});

export type ExpectedError = z.infer<typeof expectedError>;
export type CallStep = z.infer<typeof callStep>;
export type Step = CallStep | z.infer<typeof restStep>;
export type ConformanceCase = z.infer<typeof conformanceCase>;

export interface CaseFile {
  /** Without `.yaml`. */
  name: string;
  cases: ConformanceCase[];
}

/** All case files, by name. Throws with file and path for what is none. */
export function readCaseFiles(): CaseFile[] {
  const folder = new URL("cases/", import.meta.url);
  const names = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
  return names.sort().map((name) => {
    const read = z
      .array(conformanceCase)
      .safeParse(parse(readFileSync(new URL(name, folder), "utf8"), { merge: true }));
    if (!read.success) throw new Error(`${name}: ${z.prettifyError(read.error)}`);
    return { name: name.replace(".yaml", ""), cases: read.data };
  });
}

/** The RPC of a step. */
export const methodOf = ({ rpc }: CallStep): DescMethod => methods.get(rpc)!;
