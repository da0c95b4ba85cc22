/**
 * API keys that are in use, in memory: what is held is a second old at most, and read anew in the background while it is used, many keys
 * in one statement. Ids that no key has are remembered as well, so that a flood of them does not become a flood of statements.
 */
import type { Logger } from "pino";
import { databaseUnavailable } from "../../domain/errors.ts";
import { NO_SECRET_HASH } from "../../domain/identity/key-token.ts";
import type { ApiKeyRepository, KeptKey } from "../../store/api-key-repository.ts";
import { createGroupCommit } from "../../store/group-commit.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";
import type { Identity } from "./credentials.ts";
import { boundTo, type SecretBox } from "./secret-box.ts";

/** How old what is held may be, and from when on it is read anew while it is used, in milliseconds. */
const HELD_MS = 1_000;
const REFRESH_MS = 500;
/** How long a key stays good of which the database does not say anything, because it is away. */
const GOOD_WHILE_AWAY_MS = 30_000;
/** How long the database is waited for before it counts as away, and how long it does then. */
const PATIENCE_MS = 1_000;
const AWAY_MS = 500;
/** Keys that are held, ids that are remembered to be no keys, and ends that were made here. */
const MOST_HELD = 10_000;
/** Ids in one statement, and ids that may wait for one. */
const MOST_BATCH = 500;
const MOST_WAITING = 10_000;
/** Keys whose use is noted by one statement. */
const MOST_USES = 1_000;
const MINUTE_MS = 60_000;

/** Number of signalbox.v1.KeyKind for keys that sign. */
const SIGNS = 2;

export interface KnownKey {
  readonly keyId: string;
  /** The same object as long as the key is held. */
  readonly identity: Identity;
  /** SHA-256 of its secret; of a key that signs, what no secret hashes to. */
  readonly secretHash: Uint8Array;
  /** Undefined for a key that is sent. */
  readonly signingSecret: string | undefined;
  /** When it expires, or was revoked, in milliseconds of the epoch. Infinity: not by now. */
  readonly endsAtMs: number;
}

export interface KnownKeys {
  /**
   * Undefined where there is no such key; one that has ended is there. A promise only where the database must be asked.
   *
   * @throws SignalboxError DATABASE_UNAVAILABLE, QUEUE_FULL
   */
  find(keyId: string): KnownKey | undefined | Promise<KnownKey | undefined>;
  /** Notes that somebody was let in with a key. */
  used(key: KnownKey): void;
  /** A key was ended here, or is to end: that holds at once. */
  ends(keyId: string, at: Date): void;
  /** Writes down which keys were used since, as far as the database takes it. */
  noteUses(): Promise<void>;
}

export interface KnownKeysDeps {
  repository: Pick<ApiKeyRepository, "find" | "used">;
  box: Pick<SecretBox, "open">;
  runtime: Runtime;
  log: Logger;
  /** A key that is no matter of the database. */
  fixed?: KnownKey | undefined;
}

interface Held extends KnownKey {
  endsAtMs: number;
  /** When the reading began that says so. */
  readAt: number;
  used: boolean;
  /** The minute that its use was written down of. */
  notedMinute: number;
}

/** What the database says of an id, and when it was asked. */
interface Said {
  readonly key: KeptKey | undefined;
  readonly at: number;
}

/** What a sealed secret is about. */
export const sealedKeyAbout = ({ workspaceId, keyId }: { workspaceId: string; keyId: string }): string =>
  boundTo("api_keys", workspaceId, keyId);

/** Whether a key has ended. */
export const hasEnded = ({ endsAtMs }: KnownKey, runtime: Pick<Runtime, "now">): boolean =>
  endsAtMs !== Number.POSITIVE_INFINITY && endsAtMs <= runtime.now().getTime();

export function createKnownKeys({ repository, box, runtime, log, fixed }: KnownKeysDeps): KnownKeys {
  /** The one that was read last stands last. */
  const held = new Map<string, Held>();
  /** Until when ids are remembered to be no keys. */
  const unknown = new Map<string, number>();
  /** Ends of keys that were made here, in milliseconds: what was read before does not know of them. */
  const endings = new Map<string, number>();
  const reading = new Map<string, Promise<Held | undefined>>();
  let awayUntil = Number.NEGATIVE_INFINITY;

  async function flush(keyIds: string[]): Promise<Said[]> {
    const at = runtime.elapsedMs();
    const found = new Map((await repository.find(keyIds)).map((key) => [key.keyId, key]));
    return keyIds.map((keyId) => ({ key: found.get(keyId), at }));
  }
  // Whoever asks for what nobody knows does not keep those waiting who are known.
  const queue = (name: string) =>
    createGroupCommit<string, Said>({ name, flush, maxBatch: MOST_BATCH, maxWaiting: MOST_WAITING });
  const refreshes = queue("key refreshes");
  const lookups = queue("key lookups");

  function read(keyId: string): Promise<Held | undefined> {
    const underWay = reading.get(keyId);
    if (underWay) return underWay;
    const asked = held.has(keyId) ? refreshes : lookups;
    const begun = asked
      .submit(keyId)
      .then((said) => keep(keyId, said))
      .finally(() => reading.delete(keyId));
    reading.set(keyId, begun);
    return begun;
  }

  function keep(keyId: string, { key, at }: Said): Held | undefined {
    if (!key) {
      held.delete(keyId);
      unknown.delete(keyId);
      put(unknown, keyId, at + HELD_MS);
      return undefined;
    }
    const ends = key.revokedAt ? 0 : (key.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY);
    const endsAtMs = Math.min(ends, endings.get(keyId) ?? Number.POSITIVE_INFINITY);
    const known = held.get(keyId);
    const place: Held = known ?? { ...knownKey(key, secretOf(key)), used: false, notedMinute: 0, readAt: at };
    place.endsAtMs = endsAtMs;
    place.readAt = at;
    held.delete(keyId);
    put(held, keyId, place);
    return place;
  }

  function secretOf(key: KeptKey): string | undefined {
    if (key.kind !== SIGNS || !key.secretSealed) return undefined;
    try {
      return box.open(key.secretSealed, sealedKeyAbout(key)).toString("latin1");
    } catch (err) {
      // Nobody can sign with it; its holder is told no more than anybody else.
      log.error({ err, keyId: key.keyId }, "the secret of a key that signs cannot be read");
      return undefined;
    }
  }

  /** What is held is too old, and the database must say whether it still holds. */
  async function anew(old: Held): Promise<Held | undefined> {
    const answered = new AbortController();
    const tooLate = (): typeof LATE => LATE;
    const late = runtime.wait(PATIENCE_MS, answered.signal).then(tooLate, tooLate);
    try {
      const found = await Promise.race([read(old.keyId), late]);
      if (found !== LATE) return found;
    } catch (error) {
      if (!isTransient(error)) throw error;
    } finally {
      answered.abort();
    }
    const now = runtime.elapsedMs();
    awayUntil = now + AWAY_MS;
    if (now - old.readAt < GOOD_WHILE_AWAY_MS) return old;
    throw databaseUnavailable();
  }

  return {
    find(keyId) {
      if (fixed?.keyId === keyId) return fixed;
      const now = runtime.elapsedMs();
      const known = held.get(keyId);
      if (!known) {
        const until = unknown.get(keyId);
        return until !== undefined && until > now ? undefined : read(keyId);
      }
      const age = now - known.readAt;
      if (age < REFRESH_MS) return known;
      if (age >= HELD_MS && !(now < awayUntil && age < GOOD_WHILE_AWAY_MS)) return anew(known);
      // Whoever asks when it is too old hears why it failed.
      if (now >= awayUntil) read(keyId).catch(() => {});
      return known;
    },

    used(key) {
      if (key !== fixed) (key as Held).used = true;
    },

    ends(keyId, at) {
      const atMs = Math.min(at.getTime(), endings.get(keyId) ?? Number.POSITIVE_INFINITY);
      put(endings, keyId, atMs);
      const known = held.get(keyId);
      if (known) known.endsAtMs = Math.min(known.endsAtMs, atMs);
    },

    async noteUses() {
      const minute = Math.floor(runtime.now().getTime() / MINUTE_MS);
      const fresh = [...held.values()].filter((key) => key.used && key.notedMinute < minute);
      const at = new Date(minute * MINUTE_MS);
      for (let i = 0; i < fresh.length; i += MOST_USES) {
        const some = fresh.slice(i, i + MOST_USES);
        for (const key of some) {
          key.used = false;
          key.notedMinute = minute;
        }
        await repository.used(some.map(({ keyId }) => ({ keyId, at })));
      }
    },
  };
}

const LATE: unique symbol = Symbol("the database does not answer in time");

/** Puts in a value, and forgets the oldest of too many. */
function put<V>(map: Map<string, V>, key: string, value: V): void {
  map.set(key, value);
  if (map.size <= MOST_HELD) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}

function knownKey(key: KeptKey, signingSecret: string | undefined): KnownKey {
  const { workspaceId, roles, scopes, agentId } = key;
  return {
    keyId: key.keyId,
    identity: {
      id: key.principalId,
      authentication: key.kind === SIGNS ? "hmac" : "api-key",
      actors: [],
      granted: { workspaceId, roles, scopes, ...(agentId !== undefined && { agentId }) },
    },
    secretHash: key.secretHash ?? NO_SECRET_HASH,
    signingSecret,
    endsAtMs: Number.POSITIVE_INFINITY,
  };
}
