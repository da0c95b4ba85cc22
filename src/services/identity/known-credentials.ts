/**
 * The credentials of agents as calls need them: with their secrets, held in memory. Which there are is read anew after a second; a
 * secret is read when it is needed and its revision is another.
 */
import type { AgentCredentialRepository } from "../../store/agent-credential-repository.ts";
import type { AgentPlace } from "../agent-port.ts";
import { loadBriefly } from "../held-briefly.ts";
import type { Runtime } from "../runtime.ts";
import type { CredentialSource, KnownCredential } from "./credential-source.ts";
import { openCredential } from "./sealed-credential.ts";
import type { SecretBox } from "./secret-box.ts";

/** Secrets that are held at most: those that were asked for last. */
const MOST_OPENED = 2_000;

export interface KnownCredentials extends CredentialSource {
  /** Has them read anew, after a change. Other replicas see it within a second. */
  changed(workspaceId: string): void;
}

export interface KnownCredentialsDeps {
  repository: Pick<AgentCredentialRepository, "get" | "revisions">;
  box: SecretBox;
  runtime: Pick<Runtime, "elapsedMs">;
}

interface Opened {
  readonly revision: string;
  readonly credential: KnownCredential;
}

export function createKnownCredentials({ repository, box, runtime }: KnownCredentialsDeps): KnownCredentials {
  /** By workspace, then agent. */
  const revisions = new Map<string, ReadonlyMap<string, string>>();
  const opened = new Map<string, Opened>();
  const opening = new Map<string, Promise<KnownCredential | undefined>>();

  const loads = loadBriefly(runtime, async (workspaceId, keeps) => {
    const found = await repository.revisions(workspaceId);
    if (keeps()) revisions.set(workspaceId, found);
  });

  function held(place: AgentPlace): KnownCredential | undefined | Promise<KnownCredential | undefined> {
    const revision = revisions.get(place.workspaceId)?.get(place.agentId);
    if (revision === undefined) return undefined;
    const key = `${place.workspaceId}/${place.agentId}`;
    const known = opened.get(key);
    if (known?.revision !== revision) return open(place, key, revision);
    // Asked for last, it goes last.
    opened.delete(key);
    opened.set(key, known);
    return known.credential;
  }

  function open(place: AgentPlace, key: string, revision: string): Promise<KnownCredential | undefined> {
    const turn = `${key} ${revision}`;
    const under = opening.get(turn);
    if (under) return under;
    const read = readAndOpen(place, key).finally(() => opening.delete(turn));
    opening.set(turn, read);
    return read;
  }

  async function readAndOpen(place: AgentPlace, key: string): Promise<KnownCredential | undefined> {
    const record = await repository.get(place.workspaceId, place.agentId);
    // It went since; or there is a later one, and that is the one to use.
    if (!record) return undefined;
    const known = opened.get(key);
    if (known?.revision === record.revision) return known.credential;
    const credential = openCredential(box, place, record);
    opened.delete(key);
    opened.set(key, { revision: record.revision, credential });
    const [oldest] = opened.keys();
    if (opened.size > MOST_OPENED && oldest !== undefined) opened.delete(oldest);
    return credential;
  }

  return {
    of(place) {
      const loading = loads.load(place.workspaceId);
      if (!loading) return held(place);
      return loading.then(
        () => held(place),
        (error: unknown) => {
          // What was known before holds as long as the database is away: calls that run must be told of their ends.
          if (revisions.has(place.workspaceId)) return held(place);
          throw error;
        },
      );
    },
    changed: loads.changed,
  };
}
