/** Credentials of agents as calls get them: held for a moment, opened once a revision, and by nobody who moves or changes them. */
import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import { AgentCredentialSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import type { GivenKind } from "../../src/domain/identity/agent-credential.ts";
import { createKnownCredentials } from "../../src/services/identity/known-credentials.ts";
import { resealSecrets } from "../../src/services/identity/reseal.ts";
import { sealCredential } from "../../src/services/identity/sealed-credential.ts";
import { createSecretBox } from "../../src/services/identity/secret-box.ts";
import { createAgentCredentialRepository } from "../../src/store/agent-credential-repository.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createSealedSecrets } from "../../src/store/sealed-secrets.ts";
import { cardOf } from "../agents/rogue-agent.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const bearer = (token: string) =>
  create(AgentCredentialSchema, { kind: { case: "bearer", value: { token } } }).kind as GivenKind;
const box = createSecretBox([randomBytes(32)]);
const workspaceId = "default";
const place = (agentId: string) => ({ workspaceId, agentId });

describeEachBackend("credentials of agents", (ctx) => {
  const repository = () => createAgentCredentialRepository(ctx.db);

  beforeEach(async () => {
    await raw(ctx.db, "delete from agent_credentials");
    await raw(ctx.db, "delete from agents");
    const source = { card: cardOf("JSONRPC", "http://a/"), cardUrl: undefined, cardEtag: undefined };
    for (const agentId of ["a", "b"]) {
      const agent = { source, safeToRepeat: false, maxConcurrency: 0 };
      await createAgentRepository(ctx.db).insert(workspaceId, agentId, agent, new Date());
    }
  });

  const put = (agentId: string, token: string, hosts = new Set(["a:80"])) =>
    repository().put(workspaceId, {
      agentId,
      ...sealCredential(box, place(agentId), { kind: bearer(token), hosts }),
      updatedAt: new Date(),
      updatedBy: "me",
    });

  function known() {
    const clock = { now: 0 };
    const reads = { revisions: 0, secrets: 0, away: false };
    const stored = repository();
    const counted = {
      async revisions(id: string) {
        reads.revisions += 1;
        if (reads.away) throw new Error("away");
        return stored.revisions(id);
      },
      async get(id: string, agentId: string) {
        reads.secrets += 1;
        return stored.get(id, agentId);
      },
    };
    const credentials = createKnownCredentials({ repository: counted, box, runtime: { elapsedMs: () => clock.now } });
    return { credentials, clock, reads };
  }

  test("are read once for a second and once for a revision; what is known comes without a promise", async () => {
    const { credentials, clock, reads } = known();
    await put("a", "first");
    const first = await credentials.of(place("a"));
    expect(first).toEqual({ kind: bearer("first"), hosts: new Set(["a:80"]) });
    expect(credentials.of(place("a"))).toBe(first);
    expect(credentials.of(place("b"))).toBeUndefined();
    clock.now += 1_001;
    expect(await credentials.of(place("a"))).toBe(first);
    expect(reads).toMatchObject({ revisions: 2, secrets: 1 });
    await put("a", "second");
    expect(credentials.of(place("a"))).toBe(first);
    credentials.changed(workspaceId);
    const both = await Promise.all([credentials.of(place("a")), credentials.of(place("a"))]);
    expect(both[0]?.kind).toEqual(bearer("second"));
    expect(both[1]).toBe(both[0]);
    expect(reads.secrets).toBe(2);
    reads.away = true;
    clock.now += 1_001;
    expect(await credentials.of(place("a"))).toBe(both[0]);
    reads.away = false;
    await repository().remove(workspaceId, "a");
    credentials.changed(workspaceId);
    expect(await credentials.of(place("a"))).toBeUndefined();
  });

  test("fail where nothing is known yet and the database is away", async () => {
    const { credentials, reads } = known();
    reads.away = true;
    await expect(credentials.of(place("a"))).rejects.toThrow("away");
  });

  test("do not open in the row of another agent, nor beside another body", async () => {
    await put("a", "secret");
    await raw(
      ctx.db,
      `insert into agent_credentials (workspace_id, agent_id, body, sealed, updated_at, updated_by)
       select workspace_id, 'b', body, sealed, updated_at, updated_by from agent_credentials`,
    );
    await expect(known().credentials.of(place("b"))).rejects.toMatchObject({ reason: "SECRET_UNREADABLE" });
    await raw(ctx.db, "update agent_credentials set body = body || '\\x4a0178' where agent_id = 'a'");
    await expect(known().credentials.of(place("a"))).rejects.toMatchObject({ reason: "SECRET_UNREADABLE" });
  });

  test("go with their agent; and none is kept for an agent that is gone", async () => {
    await put("a", "secret");
    await createAgentRepository(ctx.db).remove(workspaceId, "a");
    expect(await repository().get(workspaceId, "a")).toBeUndefined();
    expect(await put("a", "secret")).toBeUndefined();
  });

  test("that are set while they are encrypted anew stay what they were set to", async () => {
    await put("a", "old");
    const [older, newer] = [box, randomBytes(32)];
    const next = createSecretBox([newer]);
    const both = {
      ...next,
      open: (sealed: Uint8Array, about: string) => (next.isOld(sealed) ? older : next).open(sealed, about),
    };
    const secrets = createSealedSecrets(ctx.db);
    const raced = {
      ...secrets,
      async replace(...given: Parameters<typeof secrets.replace>) {
        await put("a", "set meanwhile");
        return secrets.replace(...given);
      },
    };
    expect(await resealSecrets({ secrets: raced, box: both, log: silent })).toEqual({ resealed: 0, unreadable: 0 });
    expect((await known().credentials.of(place("a")))?.kind).toEqual(bearer("set meanwhile"));
    expect(await resealSecrets({ secrets, box: both, log: silent })).toEqual({ resealed: 1, unreadable: 0 });
    expect(await resealSecrets({ secrets, box: both, log: silent })).toEqual({ resealed: 0, unreadable: 0 });
    await expect(known().credentials.of(place("a"))).rejects.toMatchObject({ reason: "SECRET_UNREADABLE" });
  });
});
