import { type Kysely, sql } from "kysely";

/** Each push notification config remembers how far it has been served, so that any replica can go on with it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // One sequence for all configs: the token of one that was deleted is never that of another which was made in its place.
  await sql`create sequence push_claims`.execute(db);
  // `next_try_at` has all its digits: rounded up to milliseconds, what is due now would be due later.
  await sql`
    alter table push_configs
      add column posted bigint not null default 0 check (posted >= 0),
      add column reach bigint not null default 0 check (reach >= 0),
      add column tries integer not null default 0 check (tries >= 0),
      add column next_try_at timestamptz,
      add column given_up_at timestamptz(3),
      add column claim bigint not null default nextval('push_claims'),
      add column claimed_by text collate "C",
      add constraint push_configs_rest check (given_up_at is null or (next_try_at is null and claimed_by is null))`.execute(
    db,
  );
  // What an earlier version had not posted when it ended is not posted later: nobody knows what it had posted.
  await sql`
    update push_configs c set posted = t.last_seq, reach = t.last_seq from tasks t
    where t.workspace_id = c.workspace_id and t.task_id = c.task_id`.execute(db);
  await sql`create index push_configs_due on push_configs (next_try_at) where next_try_at is not null`.execute(db);
}
