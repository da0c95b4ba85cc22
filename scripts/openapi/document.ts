/** The OpenAPI 3.1 document of our own routes, made from descriptors and the comments of the protos. */
import { type DescField, type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { StatusSchema } from "../../gen/google/rpc/status_pb.ts";
import { required_scope } from "../../gen/signalbox/v1/options_pb.ts";
import { httpRoutes, type Route } from "../../src/transport/http-json/routes.ts";
import type { BoundRpc } from "../../src/transport/rpc/bound.ts";
import { createSchemas, isRequired, type Json, type Schemas } from "./schemas.ts";

export interface DocumentOptions {
  version: string;
  /** The RPCs whose routes are described. */
  methods: readonly DescMethod[];
  /** What protos say, by full name. */
  comments: ReadonlyMap<string, string>;
}

/** Routes below `/v1`; the short ones beside them are left out. */
export function openapiDocument({ version, methods, comments }: DocumentOptions): Json {
  const schemas = createSchemas(comments);
  const rpcs = methods.filter((method) => hasOption(method, http)).map((method) => ({ method }) as BoundRpc);
  const paths = new Map<string, Json>();
  for (const route of httpRoutes(rpcs)) {
    const path = pathOf(route);
    if (!path.startsWith("/v1/")) continue;
    const operation = operationOf(route, schemas, comments);
    const others = paths.get(path) ?? {};
    paths.set(path, { ...others, [route.httpMethod.toLowerCase()]: operation });
  }
  const services = [...new Set(rpcs.map(({ method }) => method.parent))];
  return {
    openapi: "3.1.1",
    info: {
      title: "Signalbox",
      version,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
      description:
        "Signalbox's own routes. The routes of the Agent2Agent protocol, which it serves beside them, are in its specification. Written by scripts/write-openapi.ts from proto/.",
    },
    servers: [{ url: "/" }],
    security: [],
    tags: services.map(({ name, typeName }) => ({
      name,
      ...(comments.has(typeName) && { description: comments.get(typeName) }),
    })),
    paths: Object.fromEntries([...paths].sort(([a], [b]) => (a < b ? -1 : 1))),
    components: {
      responses: { Error: ERROR_RESPONSE },
      schemas: { Error: errorSchema(schemas), ...schemas.all() },
    },
  };
}

const ERROR_RESPONSE: Json = {
  description:
    "google.rpc.Status as JSON, under `error`. `details` hold an ErrorInfo with the `reason` that programs decide by, a BadRequest where fields are wrong, and a RetryInfo where a later try can help.",
  content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
};

const errorSchema = (schemas: Schemas): Json => ({
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["code", "status", "message", "details"],
      properties: {
        code: { type: "integer", description: "The HTTP status." },
        status: { type: "string", description: "The name of the google.rpc.Code, such as NOT_FOUND." },
        message: { type: "string", description: "A sentence for a person." },
        details: schemas.field(StatusSchema.field.details),
      },
    },
  },
});

function pathOf(route: Route): string {
  const { segments, verb } = route.template;
  const path = segments.map((segment, i) => ("literal" in segment ? segment.literal : `{${nameOf(route, i)}}`));
  return `/${path.join("/")}${verb === "" ? "" : `:${verb}`}`;
}

/**
 * What the variable of a segment is called: `agentId` for `agent.agent_id` too, because OpenAPI has one name for what stands at
 * one place of a path.
 */
const nameOf = ({ template, pathFields }: Route, segment: number): string => {
  const before = template.segments.slice(0, segment).filter((each) => !("literal" in each)).length;
  return pathFields[before]!.at(-1)!.jsonName;
};

function operationOf(route: Route, schemas: Schemas, comments: ReadonlyMap<string, string>): Json {
  const { method } = route.rpc;
  const name = `${method.parent.typeName}.${method.name}`;
  const [summary = method.name, ...more] = (comments.get(name) ?? "").split("\n\n");
  const scope = getOption(method, required_scope);
  const description = [summary, ...more, `Scope: \`${scope}\`.`].join("\n\n");
  const isAdditional = getOption(method, http).additionalBindings.some(
    ({ pattern }) => pattern.case !== undefined && matches(route, pattern.value as string),
  );
  return {
    // An RPC may have more than one route, and an operation has a name of its own.
    operationId: isAdditional
      ? `${method.parent.name}_${method.name}_${pathName(route)}`
      : `${method.parent.name}_${method.name}`,
    tags: [method.parent.name],
    summary: firstSentence(summary),
    description,
    parameters: [...pathParameters(route, schemas), ...queryParameters(route, schemas)],
    ...(route.body !== undefined && { requestBody: requestBody(route, schemas) }),
    responses: { 200: success(method, schemas), default: { $ref: "#/components/responses/Error" } },
    "x-required-scope": scope,
  };
}

const matches = ({ template }: Route, pattern: string): boolean =>
  pattern.replace(/=\*/g, "") ===
  `/${template.segments.map((s) => ("literal" in s ? s.literal : `{${s.fieldPath}}`)).join("/")}${template.verb && `:${template.verb}`}`;

const pathName = ({ template }: Route): string =>
  template.segments.flatMap((segment) => ("literal" in segment ? [segment.literal] : [])).join("_");

const firstSentence = (text: string): string => /^.*?[.:](?=\s|$)/.exec(text)?.[0].replace(/[.:]$/, "") ?? text;

function pathParameters(route: Route, schemas: Schemas): Json[] {
  return route.pathFields.map((fields) => {
    const { description, ...schema } = schemas.field(fields.at(-1)!);
    return {
      name: fields.at(-1)!.jsonName,
      in: "path",
      required: true,
      ...(description !== undefined && { description }),
      schema,
    };
  });
}

/** What neither path nor body binds. Messages can be given field by field, but for what has a form of its own. */
function queryParameters(route: Route, schemas: Schemas): Json[] {
  if (route.body === "request") return [];
  const bound = new Set([...route.pathFields.map(([first]) => first), route.body]);
  return route.rpc.method.input.fields
    .filter((field) => !bound.has(field) && isQueryField(field))
    .map((field) => {
      const { description, ...schema } = schemas.field(field);
      return {
        name: field.jsonName,
        in: "query",
        ...(isRequired(field) && { required: true }),
        ...(description !== undefined && { description }),
        schema,
      };
    });
}

const IN_QUERIES = new Set(["google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"]);

const isQueryField = ({ fieldKind, message }: DescField): boolean =>
  fieldKind !== "map" && (message === undefined || IN_QUERIES.has(message.typeName));

function requestBody({ rpc, body, pathFields }: Route, schemas: Schemas): Json {
  const whole = body === "request";
  const schema = whole ? schemas.message(rpc.method.input) : schemas.field(body as DescField);
  const bound = new Set(pathFields.map(([first]) => first));
  const needed = whole ? rpc.method.input.fields.some((field) => isRequired(field) && !bound.has(field)) : true;
  return { required: needed, content: { "application/json": { schema } } };
}

function success(method: DescMethod, schemas: Schemas): Json {
  const schema = schemas.message(method.output);
  const type = method.methodKind === "server_streaming" ? "text/event-stream" : "application/json";
  const description = method.methodKind === "server_streaming" ? "Server-sent events; the data of each is this." : "OK";
  return { description, content: { [type]: { schema } } };
}
