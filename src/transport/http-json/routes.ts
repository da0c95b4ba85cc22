/** The routes of a server, derived from the `google.api.http` options of its RPCs. */
import { type DescField, type DescMessage, getOption, hasOption } from "@bufbuild/protobuf";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import type { HttpRule } from "../../../gen/google/api/http_pb.ts";
import { fieldOf } from "../proto-json.ts";
import type { BoundRpc } from "../rpc/bound.ts";
import { type PathTemplate, parsePathTemplate } from "./path-template.ts";

/** A field by the way to it from the request: every step but the last is a message. */
export type FieldPath = readonly DescField[];

/** One way to call one RPC. */
export interface Route {
  readonly rpc: BoundRpc;
  readonly httpMethod: string;
  readonly template: PathTemplate;
  /** The fields that the template's variables bind, in their order. */
  readonly pathFields: readonly FieldPath[];
  /** The whole request, one field of it, or nothing. */
  readonly body: "request" | DescField | undefined;
}

/**
 * All routes of `rpcs`. RPCs without annotation, and those that take a stream, have none.
 * Throws for an annotation that is not understood or names a field that there is not.
 */
export function httpRoutes(rpcs: Iterable<BoundRpc>): Route[] {
  const routes: Route[] = [];
  for (const rpc of rpcs) {
    const { method } = rpc;
    if (method.methodKind !== "unary" && method.methodKind !== "server_streaming") continue;
    if (!hasOption(method, http)) continue;
    const rule = getOption(method, http);
    for (const binding of [rule, ...rule.additionalBindings]) {
      const route = routeOf(rpc, binding);
      routes.push(route);
      // The routes that no annotation has: the specification subscribes by POST (section 11.3.2), its proto by GET; and who comes
      // from a simple gateway looks for `/tasks/{id}/stream`, which the standard's proto cannot say.
      if (route.template.verb === "subscribe" && route.httpMethod === "GET") {
        routes.push({ ...route, httpMethod: "POST", body: "request" });
        routes.push({
          ...route,
          template: { segments: [...route.template.segments, { literal: "stream" }], verb: "" },
        });
      }
    }
  }
  return routes;
}

function routeOf(rpc: BoundRpc, rule: HttpRule): Route {
  const { method } = rpc;
  const { case: kind, value: pattern } = rule.pattern;
  if (kind === undefined || kind === "custom" || rule.responseBody !== "") {
    throw new Error(`The google.api.http option of ${method} is not understood.`);
  }
  const template = parsePathTemplate(pattern);
  const variables = template.segments.flatMap((segment) => ("fieldPath" in segment ? [segment.fieldPath] : []));
  const requireField = (path: string): FieldPath => {
    const fields = resolveFieldPath(method.input, path.split("."));
    if (fields === undefined)
      throw new Error(`The google.api.http option of ${method} names "${path}": no such field.`);
    return fields;
  };
  return {
    rpc,
    httpMethod: kind.toUpperCase(),
    template,
    pathFields: variables.map(requireField),
    body: rule.body === "*" ? "request" : rule.body === "" ? undefined : requireField(rule.body)[0],
  };
}

/** Follows names (JSON or proto) from `desc`; undefined where they lead nowhere, or through a list or map. */
export function resolveFieldPath(desc: DescMessage, names: readonly string[]): FieldPath | undefined {
  const fields: DescField[] = [];
  let current: DescMessage | undefined = desc;
  for (const name of names) {
    const field: DescField | undefined = current && fieldOf(current, name);
    if (field === undefined) return undefined;
    fields.push(field);
    current = field.fieldKind === "message" ? field.message : undefined;
  }
  return fields;
}
