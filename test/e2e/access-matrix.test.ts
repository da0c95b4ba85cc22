/**
 * Every RPC of the server, in every binding, as nobody, as somebody of another workspace and as each role: let in or refused as its
 * descriptor declares. And whatever names a task: what must not be seen is answered as what there is not.
 */
import type { DescMethod, JsonObject } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { BESIDE_RPCS, isRole, ONLY_ADMIN, ROLES, scopesOf } from "../../src/domain/identity/roles.ts";
import { ALL_TASKS } from "../../src/domain/identity/visibility.ts";
import { createSignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { scopeOf } from "../../src/transport/rpc/scopes.ts";
import type { Client } from "../conformance/bindings/binding.ts";
import { bearer, type TestPrincipal, testScheme } from "../fixtures/test-identities.ts";
import { BACKENDS } from "../store/backends.ts";
import { emptyRequest, type Outcome, outcomeOf, put, servedServices, WAYS } from "./all-rpcs.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** Refusals of who calls, whatever they ask for. */
const CLOSED = ["UNAUTHENTICATED", "CREDENTIAL_INVALID", "SCOPE_MISSING"];
/** Calls under way at once. */
const AT_ONCE = 24;

const roles = Object.keys(ROLES).filter(isRole);
const ROLE_SCOPES = [...new Set([...roles.flatMap((role) => [...scopesOf([role])]), ...ONLY_ADMIN])];
/** All scopes by name but those that show what others have. */
const ALL_BUT = ROLE_SCOPES.filter((scope) => !["*", ALL_TASKS, "audit.admin", "approvals.write"].includes(scope));

const PRINCIPALS: Record<string, TestPrincipal> = {
  ...Object.fromEntries(roles.map((role) => [role, { roles: [role] }])),
  /** A member without anything. */
  bare: {},
  foreign: { workspaceId: "elsewhere", roles: ["admin"] },
  alice: { roles: ["caller"] },
  /** May call every RPC, and sees only its own. */
  mallory: { scopes: ALL_BUT },
};

describe.each(BACKENDS)("on %s", (backend) => {
  let app: TestApp;
  let methods: DescMethod[];
  let clients: [name: string, has: (method: DescMethod) => boolean, client: Client][];

  beforeAll(async () => {
    app = await startTestApp({
      backend,
      flags: {
        "auth.anonymous-role": "none",
        // Nobody asks for everything here, as fast as he can.
        "limits.failed-authentications": "0",
      },
      agents: { echo: echoAgent("echo") },
      headers: bearer("admin"),
      schemes: [testScheme(PRINCIPALS)],
    });
    const elsewhere = await fetch(`${app.httpUrl}/v1/workspaces`, {
      method: "POST",
      headers: { "content-type": "application/json", ...bearer("admin") },
      body: JSON.stringify({ workspaceId: "elsewhere" }),
    });
    expect(elsewhere.status).toBe(200);
    methods = (await servedServices(app)).flatMap((service) => service.methods);
    clients = WAYS.map(({ name, has, connect }) => [name, has, connect(app)]);
  });
  afterAll(async () => {
    for (const [, , client] of clients ?? []) client.close();
    await app?.stop();
  });

  /** Calls in every binding that has the RPC. */
  function everywhere(method: DescMethod, request: JsonObject, headers: Record<string, string>) {
    return clients
      .filter(([, has]) => has(method))
      .map(([way, , client]) => ({
        way,
        async ask() {
          const signal = AbortSignal.timeout(10_000);
          const outcome = outcomeOf(client, { method, request, headers, signal });
          return outcome.catch((error: unknown) => {
            throw new Error(`${method.parent.name}.${method.name} over ${way} has no outcome`, { cause: error });
          });
        },
      }));
  }

  test("serves services that all declare what they need, each scope in a role", () => {
    expect(methods.length).toBeGreaterThan(70);
    const declared = new Set(methods.map((method) => scopeOf(method)));
    expect([...declared].filter((scope) => !ROLE_SCOPES.includes(scope!))).toEqual([]);
    const unused = ROLE_SCOPES.filter((scope) => scope !== "*" && !declared.has(scope) && !BESIDE_RPCS.includes(scope));
    expect(unused).toEqual([]);
  });

  test("lets each principal in where it holds the scope, and nobody else", async () => {
    const wrong: string[] = [];
    const work: (() => Promise<void>)[] = [];
    for (const method of methods) {
      const scope = scopeOf(method)!;
      for (const name of [undefined, "stranger", ...Object.keys(PRINCIPALS)]) {
        const principal = name === undefined ? undefined : PRINCIPALS[name];
        const scopes = principal && scopesOf(principal.roles ?? [], principal.scopes);
        const expected =
          name === undefined
            ? "UNAUTHENTICATED"
            : !scopes
              ? "CREDENTIAL_INVALID"
              : scopes.has(scope) || scopes.has("*")
                ? "let in"
                : "SCOPE_MISSING";
        const headers = name === undefined ? {} : bearer(name);
        for (const { way, ask } of everywhere(method, emptyRequest(method), headers)) {
          work.push(async () => {
            const outcome = await ask();
            const reason = "ok" in outcome ? "" : outcome.reason;
            // An exchange asks for the scope of what is exchanged too.
            const got = CLOSED.includes(reason) ? reason : "let in";
            if (got !== expected)
              wrong.push(`${method.parent.name}.${method.name} over ${way} as ${name}: ${got}, not ${expected}`);
          });
        }
      }
    }
    await inParallel(work);
    expect(wrong).toEqual([]);
  }, 120_000);

  describe("a task of somebody else", () => {
    let taskId: string;
    let contextId: string;
    beforeAll(async () => {
      const alice = createSignalboxClient({ baseUrl: app.httpUrl, headers: bearer("alice"), reconnects: 0 });
      const { payload } = await alice.a2a.sendMessage({
        message: userMessage("hello"),
        configuration: { returnImmediately: true },
      });
      if (payload.case !== "task") throw new Error("no task");
      taskId = payload.value.id;
      contextId = payload.value.contextId;
      await alice.tasks.waitTask({ taskId });
    });

    test.each(["mallory", "foreign"])(
      "is for %s as one that there is not, whatever asks for it",
      async (who) => {
        const wrong: object[] = [];
        const work: (() => Promise<void>)[] = [];
        const missing = "00000000-0000-7000-8000-000000000000";
        let asked = 0;
        for (const { method, field, more } of namingTasks(methods)) {
          const requestOf = (id: string) => {
            const request = { ...emptyRequest(method), ...structuredClone(more) };
            put(request, field, id);
            return request;
          };
          const theirs = everywhere(method, requestOf(taskId), bearer(who));
          const none = everywhere(method, requestOf(missing), bearer(who));
          for (const [i, { way, ask }] of theirs.entries()) {
            work.push(async () => {
              const [found, absent] = [masked(await ask(), taskId), masked(await none[i]!.ask(), missing)];
              asked += 1;
              const isRefused =
                "reason" in found ? found.reason === "TASK_NOT_FOUND" : isLikeNothing(found.ok, contextId);
              const isEqual = JSON.stringify(found) === JSON.stringify(absent);
              if (!isRefused || !isEqual)
                wrong.push({ rpc: `${method.parent.name}.${method.name}`, way, found, absent });
            });
          }
        }
        await inParallel(work);
        expect(wrong).toEqual([]);
        expect(asked).toBeGreaterThan(80);
      },
      60_000,
    );
  });
});

/** Every RPC that names a task in its request, where, and what else the request must have. */
function namingTasks(methods: readonly DescMethod[]): { method: DescMethod; field: string[]; more: JsonObject }[] {
  const message = { messageId: "m", role: "ROLE_USER", parts: [{ text: "hello" }] };
  const MORE: Record<string, JsonObject> = {
    CreateTaskPushNotificationConfig: { url: "http://127.0.0.1:9/hook" },
    GetTaskPushNotificationConfig: { id: "config" },
    DeleteTaskPushNotificationConfig: { id: "config" },
    ReportOutcome: { quality: 1 },
    SubmitTask: { text: "hello", agentId: "echo" },
  };
  const named = methods.flatMap((method) => {
    const ids = method.input.fields.filter(({ name }) => name === "task_id" || name === "parent_task_id");
    const own =
      method.parent.typeName === A2AService.typeName && ids.length === 0
        ? method.input.fields.filter(({ name }) => name === "id")
        : [];
    return [...ids, ...own].map(({ jsonName }) => ({ method, field: [jsonName], more: MORE[method.name] ?? {} }));
  });
  const one = (name: string) => methods.filter((method) => method.name === name);
  return [
    ...named,
    ...["SendMessage", "SendStreamingMessage"].flatMap((name) =>
      one(name).map((method) => ({ method, field: ["message", "taskId"], more: { message } })),
    ),
    ...one("SendMessage").map((method) => ({
      method,
      field: ["metadata", "urn:signalbox:a2a:delegation:v1", "parentTaskId"],
      more: { message, metadata: {} },
    })),
  ];
}

/** A list in which nothing of the task is. */
const isLikeNothing = (answer: unknown, contextId: string): boolean => !JSON.stringify(answer).includes(contextId);

function masked(outcome: Outcome, taskId: string): Outcome {
  // Ids that each call makes anew, and times, tell nothing.
  return JSON.parse(JSON.stringify(outcome).replaceAll(taskId, "<task>")) as Outcome;
}

/** Does all of it, so much at once. */
async function inParallel(work: readonly (() => Promise<void>)[]): Promise<void> {
  let next = 0;
  const one = async () => {
    while (next < work.length) await work[next++]!();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}
