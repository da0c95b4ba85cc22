/** Makes calls, and judges what comes of them: answers, what is said of ids that are others', and what the database holds after. */
import { randomUUID } from "node:crypto";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { MessageService } from "../../../gen/signalbox/v1/message_pb.ts";
import { RegistryService } from "../../../gen/signalbox/v1/registry_pb.ts";
import { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import { RpcError } from "../../conformance/bindings/binding.ts";
import { randomFrom } from "../../fault/random.ts";
import { type CallKind, type Draw, KINDS, type Pool } from "./calls.ts";
import { type Lab, PRINCIPALS, WORKSPACES } from "./lab.ts";
import { nobodys } from "./seen.ts";
import type { Marked } from "./workspace-rows.ts";

/** One call, as chance has it. */
export interface Plan {
  readonly workspace: number;
  readonly kind: number;
  readonly server: number;
  readonly way: number;
  /** Of all that is drawn in it. */
  readonly seed: number;
  /** By whom it is meant for, about what is the workspace's own. */
  readonly isOwn?: boolean;
}

type Outcome =
  | { readonly ok: readonly JsonValue[] }
  | { readonly code: string; readonly reason: string; readonly message: string };

/** A call that was made, for the report of what is wrong and for the judge. */
export interface Made {
  readonly workspace: Marked;
  readonly what: string;
  readonly method: CallKind["method"];
  readonly request: string;
  readonly outcome: Outcome;
}

/** Which of others' ids a call names, and the same call with ids that nobody has. */
interface Prepared {
  readonly request: JsonObject;
  readonly headers: Record<string, string>;
  readonly foreign: readonly string[];
}

const DEADLINE_MS = 20_000;
/** Items of a stream that are read at most. */
const MOST_ITEMS = 50;

/** Makes one call; where it names what is another workspace's, also its twin. Throws when they are not told apart from nothing. */
export async function makeCall(lab: Lab, plan: Plan): Promise<Made[]> {
  const workspace = WORKSPACES[plan.workspace]!;
  const kind = KINDS[plan.kind]!;
  const random = randomFrom(plan.seed);
  const by = plan.isOwn || random() < 0.8 ? kind.by : PRINCIPALS[Math.floor(random() * PRINCIPALS.length)]!;
  const given = prepare(lab, plan, workspace, kind, (id) => id);
  const twin = prepare(lab, plan, workspace, kind, nobodys);
  const one = await call(lab, plan, workspace, by, given);
  const made = [one];
  if (given.foreign.length > 0) {
    const other = await call(lab, plan, workspace, by, twin);
    made.push(other);
    const said = masked(one.outcome, given.foreign, kind);
    const missing = masked(other.outcome, given.foreign.map(nobodys), kind);
    if (said !== missing) {
      throw new Error(
        `${one.what} ${one.request} of what is another workspace's is answered\n${said}\nand of what is nowhere\n${missing}`,
      );
    }
  }
  return made;
}

function prepare(
  lab: Lab,
  plan: Plan,
  workspace: Marked,
  { build, headers }: CallKind,
  ofForeign: (id: string) => string,
): Prepared {
  const random = randomFrom(plan.seed ^ 0x5bd1e995);
  const drawn = new Set<string>();
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  const id = (pool: Pool): string => {
    const ids = lab.seen.all(pool);
    const isOwn = ([, owners]: (typeof ids)[number]) => owners.has(workspace.workspaceId);
    const [own, foreign] = [ids.filter(isOwn), ids.filter((one) => !isOwn(one))];
    const wants = random();
    if (foreign.length > 0 && wants < 0.45 && !plan.isOwn) {
      const [chosen] = pick(foreign);
      // Where a page begins is a place in a list, and nobody's: what the list shows from there is judged.
      if (pool === "page") return chosen;
      drawn.add(chosen);
      return ofForeign(chosen);
    }
    const free = own.filter(([one]) => !lab.needed.has(one));
    // Most are about what has just happened.
    const [chosen] = pick(wants < 0.75 ? free.slice(-6) : free) ?? [];
    return chosen ?? nobodys(randomUUID());
  };
  const draw: Draw = {
    workspace,
    workspaces: WORKSPACES,
    hookUrl: lab.hookUrl(workspace),
    id,
    of: (...values) => pick(values),
    nonce: randomUUID(),
  };
  const request = build(draw);
  const sent = headers?.(draw) ?? {};
  const text = JSON.stringify([request, sent]);
  const isSent = (one: string) => one.split("/").every((part) => text.includes(ofForeign(part)));
  return { request, headers: sent, foreign: [...drawn].filter((one) => isSent(one) || text.includes(ofForeign(one))) };
}

async function call(lab: Lab, plan: Plan, workspace: Marked, by: string, prepared: Prepared): Promise<Made> {
  const { method, items = MOST_ITEMS } = KINDS[plan.kind]!;
  const server = lab.servers[plan.server % lab.servers.length]!;
  const ways = server.ways.filter(({ way }) => way.has(method));
  const { way, client } = ways[plan.way % ways.length]!;
  const { request } = prepared;
  const headers = { authorization: `Bearer ${lab.token(workspace.workspaceId, by)}`, ...prepared.headers };
  const outcome = await outcomeOf(
    client.call({ method, request: structuredClone(request), headers, signal: AbortSignal.timeout(DEADLINE_MS) }),
    items,
  ).catch((error: unknown) => {
    throw new Error(`${method.name} over ${way.name} has no outcome: ${JSON.stringify(request)}`, { cause: error });
  });
  if ("ok" in outcome) for (const item of outcome.ok) lab.seen.learn(workspace.workspaceId, item);
  const what = `${workspace.workspaceId}/${by} ${method.parent.name}.${method.name} over ${way.name}`;
  return { workspace, what, method, request: JSON.stringify(request), outcome };
}

async function outcomeOf(answers: AsyncIterable<JsonValue>, items: number): Promise<Outcome> {
  const ok: JsonValue[] = [];
  try {
    for await (const item of answers) if (ok.push(item) >= items) break;
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    const info = error.details.find((detail) => String(detail["@type"]).endsWith("google.rpc.ErrorInfo"));
    return {
      code: error.code,
      reason: String(info?.reason),
      message: `${error.message} ${JSON.stringify(error.details)}`,
    };
  }
  // An exchange answers with its error.
  const failed = (ok[0] as JsonObject | undefined)?.error as JsonObject | undefined;
  if (ok.length === 1 && failed && "kind" in (ok[0] as JsonObject)) {
    return {
      code: String(failed.code),
      reason: String((failed.info as JsonObject)?.reason),
      message: JSON.stringify(failed),
    };
  }
  return { ok };
}

/** What was said, without the ids; of what went well, what a list holds, and nothing of what calls make anew each time. */
function masked(outcome: Outcome, ids: readonly string[], { method }: CallKind): string {
  const told = "ok" in outcome && !/^(List|Search)/.test(method.name) ? { ok: "went well" } : outcome;
  const parts = ids.flatMap((one) => [one, ...one.split("/")]).filter((part) => part.length > 3);
  return parts.reduce((text, part) => text.replaceAll(part, "<id>"), JSON.stringify(told));
}

/** Services whose answers show what a lent agent says, of itself and of its tasks. */
const SHOWING_LENT: readonly string[] = [A2AService, TaskService, MessageService, RegistryService].map(
  ({ typeName }) => typeName,
);

/** What answers, all of them, show of others. `lent` has each `borrower lender`. */
export function shownOfOthers(made: readonly Made[], lent: ReadonlySet<string>): string[] {
  return made.flatMap(({ workspace, what, method, request, outcome }) => {
    const text = "ok" in outcome ? readable(outcome.ok) : JSON.stringify(outcome);
    const others = WORKSPACES.filter((other) => other !== workspace);
    return others.flatMap((other) => {
      const mayShow =
        SHOWING_LENT.includes(method.parent.typeName) && lent.has(`${workspace.workspaceId} ${other.workspaceId}`);
      const isShown = text.includes(other.mark) || (text.includes(other.agentMark) && !mayShow);
      return isShown ? [`${what} ${request} shows of ${other.workspaceId}: ${text.slice(0, 4000)}`] : [];
    });
  });
}

/** Answers as text, exported lines too. */
function readable(answers: readonly JsonValue[]): string {
  const lines = answers.map((answer) => (answer as JsonObject | null)?.lines);
  const exported = lines.map((line) => (typeof line === "string" ? Buffer.from(line, "base64").toString() : ""));
  return JSON.stringify(answers) + exported.join("");
}
