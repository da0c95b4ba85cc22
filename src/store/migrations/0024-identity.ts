import { type Kysely, sql } from "kysely";

/** Who may do what: workspaces as things of their own, keys, members, grants, shares, credentials; and whose each task is. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table workspaces
      add column display_name text not null default '',
      add column created_at timestamptz(3) not null default date_trunc('milliseconds', clock_timestamp()),
      add column suspended_at timestamptz(3),
      add column suspend_reason text not null default '',
      add column quotas jsonb,
      add column quotas_revision integer not null default 0`.execute(db);

  // Kinds are those of signalbox.v1.KeyKind: 1 is sent, and kept as its SHA-256; 2 signs, and is kept encrypted.
  await sql`
    create table api_keys (
      workspace_id text collate "C" not null references workspaces,
      key_id text collate "C" not null unique,
      kind smallint not null check (kind in (1, 2)),
      principal_id text collate "C" not null,
      roles text[] not null,
      scopes text[] not null,
      agent_id text collate "C",
      description text not null,
      secret_hash bytea check (length(secret_hash) = 32),
      secret_sealed bytea,
      created_at timestamptz(3) not null,
      created_by text not null,
      expires_at timestamptz(3),
      revoked_at timestamptz(3),
      last_used_at timestamptz(3),
      primary key (workspace_id, key_id),
      constraint api_keys_secret check ((kind = 1) = (secret_hash is not null) and (kind = 2) = (secret_sealed is not null))
    )`.execute(db);
  // The key that was made at the first start, once and for all servers.
  await sql`
    create table first_key (
      is_one boolean primary key default true check (is_one),
      key_id text not null,
      created_at timestamptz(3) not null
    )`.execute(db);
  await sql`
    create table members (
      workspace_id text collate "C" not null references workspaces,
      principal_id text collate "C" not null,
      roles text[] not null,
      scopes text[] not null,
      agent_id text collate "C",
      implied boolean not null,
      created_at timestamptz(3) not null,
      created_by text not null,
      primary key (workspace_id, principal_id)
    )`.execute(db);
  await sql`create index members_by_principal on members (principal_id)`.execute(db);

  // States are those of signalbox.v1.GrantState, but for EXPIRED, which the clock says. Whom it is offered to need not be there.
  await sql`
    create table grants (
      provider_workspace_id text collate "C" not null references workspaces,
      grant_id text collate "C" not null unique,
      consumer_workspace_id text collate "C" not null,
      agent_id text collate "C" not null,
      capability_id text collate "C",
      alias_agent_id text collate "C",
      state smallint not null default 1 check (state between 1 and 3),
      created_at timestamptz(3) not null,
      expires_at timestamptz(3),
      offered_by text not null,
      accepted_at timestamptz(3),
      accepted_by text,
      ended_at timestamptz(3),
      primary key (provider_workspace_id, grant_id),
      constraint grants_accepted check (state <> 2 or (alias_agent_id is not null and accepted_at is not null))
    )`.execute(db);
  await sql`create index grants_by_consumer on grants (consumer_workspace_id, grant_id)`.execute(db);
  await sql`
    create unique index grants_alias on grants (consumer_workspace_id, alias_agent_id) where state = 2`.execute(db);

  // Nonces of signed requests, for as long as one with such a time would be accepted.
  await sql`
    create table signed_nonces (
      key_id text collate "C" not null,
      nonce text collate "C" not null,
      expires_at timestamptz(3) not null,
      primary key (key_id, nonce)
    )`.execute(db);
  await sql`create index signed_nonces_expired on signed_nonces (expires_at)`.execute(db);

  // Whose a task is. Those of before belong to whoever nobody knew.
  await sql`alter table tasks add column principal_id text collate "C"`.execute(db);
  await sql`
    create table context_shares (
      workspace_id text collate "C" not null references workspaces,
      owner_id text collate "C" not null,
      context_id text collate "C" not null,
      subject_kind smallint not null check (subject_kind in (1, 2)),
      subject text collate "C" not null,
      can_write boolean not null,
      created_at timestamptz(3) not null,
      primary key (workspace_id, owner_id, context_id, subject_kind, subject)
    )`.execute(db);
  await sql`
    create index context_shares_by_subject on context_shares (workspace_id, subject_kind, subject)`.execute(db);

  // What the router proves itself with to an agent. `body` is signalbox.v1.AgentCredential without its secrets, `sealed` is their
  // JSON, encrypted.
  await sql`
    create table agent_credentials (
      workspace_id text collate "C" not null,
      agent_id text collate "C" not null,
      body bytea not null,
      sealed bytea not null,
      revision bigint generated always as identity,
      updated_at timestamptz(3) not null,
      updated_by text not null,
      primary key (workspace_id, agent_id),
      foreign key (workspace_id, agent_id) references agents on delete cascade
    )`.execute(db);
  // signalbox.v1.CardSignature; null where the card has none.
  await sql`alter table agents add column card_signature bytea`.execute(db);
}
