/** Nonces of signed requests, of all servers: none counts twice. */
import type { Database } from "./database.ts";
import { isDataError } from "./database-errors.ts";
import { createGroupCommit } from "./group-commit.ts";
import { textArray, timestamptzArray } from "./pg-arrays.ts";

export interface SignedNonce {
  readonly keyId: string;
  readonly nonce: string;
  /** When it may be forgotten, because a request of its time is refused by then. */
  readonly expiresAt: Date;
}

export interface NonceRepository {
  /**
   * Takes a nonce. False when it was taken before, here or by another server. Many that come together are one statement.
   *
   * @throws SignalboxError DATABASE_UNAVAILABLE, also where it is not known whether it was taken; QUEUE_FULL.
   */
  take(nonce: SignedNonce): Promise<boolean>;
  /** Takes no more, and resolves when all that were given are answered. */
  close(): Promise<void>;
}

const MOST_BATCH = 500;
const MOST_WAITING = 10_000;

// In one order, so that two servers that are sent the same nonces wait for each other and never both.
const TAKE = {
  name: "nonces-take-v1",
  text: `
    insert into signed_nonces (key_id, nonce, expires_at)
    select key_id, nonce, expires_at from unnest($1::text[], $2::text[], $3::timestamptz[]) as n(key_id, nonce, expires_at)
    order by key_id collate "C", nonce collate "C"
    on conflict do nothing returning key_id, nonce`,
};

export function createNonceRepository(db: Database): NonceRepository {
  async function flush(nonces: SignedNonce[]): Promise<boolean[]> {
    const rows = await db.query(TAKE, [
      textArray(nonces, ({ keyId }) => keyId),
      textArray(nonces, ({ nonce }) => nonce),
      timestamptzArray(nonces, ({ expiresAt }) => expiresAt),
    ]);
    const taken = new Set(rows.map((row) => `${row.key_id as string} ${row.nonce as string}`));
    // Of two that are the same in one batch, the first has it.
    return nonces.map(({ keyId, nonce }) => taken.delete(`${keyId} ${nonce}`));
  }
  const commits = createGroupCommit<SignedNonce, boolean>({
    name: "nonces",
    flush,
    maxBatch: MOST_BATCH,
    maxWaiting: MOST_WAITING,
    isolate: isDataError,
  });
  return { take: (nonce) => commits.submit(nonce), close: () => commits.close() };
}
