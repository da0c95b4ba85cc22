/** Finds the route of a path, segment by segment. */
import type { Route } from "./routes.ts";

export interface RouteMatch {
  /** The routes of this path by HTTP method; never empty. */
  routes: ReadonlyMap<string, Route>;
  /** What the template's variables stand for, still percent-encoded, in their order. */
  values: readonly string[];
  /** All routes of what the path names: by verb, which is empty for those without one, then by HTTP method. */
  verbs: ReadonlyMap<string, ReadonlyMap<string, Route>>;
}

export interface RouteTable {
  /** `path` begins with "/" and has no query. Undefined when no template matches. */
  match(path: string): RouteMatch | undefined;
}

interface Node {
  literals: Map<string, Node>;
  variable: Node | undefined;
  /** By verb, then by HTTP method. */
  ends: Map<string, Map<string, Route>>;
}

/**
 * Literal segments win over variables, and verbs over a colon within a value. A variable that begins a template (the
 * tenant) never takes a segment that is a literal of any template: `/tasks/tasks` is the task "tasks", not the list of a
 * tenant "tasks". Throws when two RPCs claim the same method and path.
 */
export function createRouteTable(routes: readonly Route[]): RouteTable {
  const root = newNode();
  const reserved = new Set<string>();
  for (const route of routes) {
    insert(root, route);
    for (const segment of route.template.segments) if ("literal" in segment) reserved.add(segment.literal);
  }

  /** The walk is as deep as the longest template, whatever the path. */
  function walk(
    node: Node,
    segments: readonly string[],
    at: number,
    values: readonly string[],
  ): RouteMatch | undefined {
    const segment = segments[at];
    if (segment === undefined) return undefined;
    if (at === segments.length - 1) return end(node, segment, at, values);
    const literal = node.literals.get(segment);
    const found = literal && walk(literal, segments, at + 1, values);
    if (found !== undefined) return found;
    if (node.variable === undefined || !mayBind(segment, at)) return undefined;
    return walk(node.variable, segments, at + 1, [...values, segment]);
  }

  function end(node: Node, segment: string, at: number, values: readonly string[]): RouteMatch | undefined {
    const colon = segment.lastIndexOf(":");
    const readings: [string, string][] = [[segment, ""]];
    if (colon >= 0) readings.unshift([segment.slice(0, colon), segment.slice(colon + 1)]);
    for (const [head, verb] of readings) {
      const literal = node.literals.get(head)?.ends;
      const ofLiteral = literal?.get(verb);
      if (literal && ofLiteral) return { routes: ofLiteral, values, verbs: literal };
      const variable = mayBind(head, at) ? node.variable?.ends : undefined;
      const ofVariable = variable?.get(verb);
      if (variable && ofVariable) return { routes: ofVariable, values: [...values, head], verbs: variable };
    }
    return undefined;
  }

  const mayBind = (segment: string, at: number) => segment !== "" && (at > 0 || !reserved.has(segment));

  return { match: (path) => walk(root, path.slice(1).split("/"), 0, []) };
}

function insert(root: Node, route: Route): void {
  let node = root;
  for (const segment of route.template.segments) {
    let next = "literal" in segment ? node.literals.get(segment.literal) : node.variable;
    if (next === undefined) {
      next = newNode();
      if ("literal" in segment) node.literals.set(segment.literal, next);
      else node.variable = next;
    }
    node = next;
  }
  const ends = node.ends.get(route.template.verb) ?? new Map<string, Route>();
  const other = ends.get(route.httpMethod);
  if (other !== undefined) throw new Error(`${other.rpc.method} and ${route.rpc.method} have the same HTTP route.`);
  node.ends.set(route.template.verb, ends.set(route.httpMethod, route));
}

const newNode = (): Node => ({ literals: new Map(), variable: undefined, ends: new Map() });
