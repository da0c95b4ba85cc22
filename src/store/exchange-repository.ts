/** Exchanges: messages with one correlation id, in the order in which they came, and the quotes that were given in them. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  type ExchangeKind,
  type ExchangeMessage,
  ExchangeMessageSchema,
  type Quote,
  QuoteSchema,
} from "../../gen/signalbox/v1/message_pb.ts";
import type { Database, Row } from "./database.ts";

/** Largest message that is kept whole, in bytes. */
export const MAX_BODY_BYTES = 65_536;

/** A message that is to be kept. It is complete: with ids and a time. */
export interface NewRecord {
  message: ExchangeMessage;
  /** Who called. */
  principal: string;
  taskId: string | undefined;
}

export interface ExchangeRecord extends NewRecord {
  /** Whose exchange it is: who began it. */
  ownerId: string;
  /** In its exchange: from 1, without gaps. */
  seq: number;
  /** How large a message was that is kept without payload and metadata; 0 for one that is whole. */
  omittedBytes: number;
}

/** An exchange. Those of one correlation id are as many as there are principals who began one. */
export interface ExchangeKey {
  ownerId: string;
  correlationId: string;
}

/** Who adds to an exchange that it may not have begun. */
export interface Answerer {
  principalId: string;
  /** Whether it sees what belongs to others. */
  seesAll: boolean;
  /** The agent that it is. */
  agentId: string | undefined;
}

export interface AppendOptions {
  ownerId: string;
  /** Whether a message may begin an exchange. */
  begins: boolean;
  /** Messages that the exchange may have by then. */
  most: number;
}

/** Where a page over all exchanges goes on: the last message of the page before. */
export interface RecentCursor {
  at: Date;
  correlationId: string;
  ownerId: string;
  seq: number;
}

export interface ExchangeRepository {
  /**
   * Adds a message to its exchange and returns its number. "missing": there is no such exchange, and the message does not
   * begin one; "full": the exchange has `most` messages.
   */
  append(workspaceId: string, record: NewRecord, options: AppendOptions): Promise<number | "missing" | "full">;
  /**
   * Whose exchange of a correlation id somebody may answer in: its own; any, for who sees all; and for an agent one in which a task is
   * told of that it has. Undefined: there is none.
   */
  answerable(workspaceId: string, correlationId: string, by: Answerer): Promise<string | undefined>;
  /**
   * The messages of the exchange of a correlation id after a place, those of `ownerId`, or of all owners, one after another. Undefined:
   * there is no such exchange.
   */
  list(
    workspaceId: string,
    of: { correlationId: string; ownerId: string | undefined },
    page: { after?: Pick<RecentCursor, "ownerId" | "seq"> | undefined; limit: number },
  ): Promise<ExchangeRecord[] | undefined>;
  /** The messages of all exchanges of an owner, or of all, the latest first. */
  recent(
    workspaceId: string,
    ownerId: string | undefined,
    page: { before?: RecentCursor; limit: number },
  ): Promise<ExchangeRecord[]>;
  /** How many messages of a kind an exchange has. */
  count(workspaceId: string, exchange: ExchangeKey, kind: ExchangeKind): Promise<number>;
  /** Keeps quotes as long as their exchange. */
  addQuotes(workspaceId: string, exchange: ExchangeKey, quotes: readonly Quote[]): Promise<void>;
  /** A quote that was given to an owner; undefined: to anybody. */
  quote(workspaceId: string, quoteId: string, ownerId: string | undefined): Promise<Quote | undefined>;
}

const INSERT = `
  insert into exchange_messages
    (workspace_id, correlation_id, owner_id, seq, kind, principal, task_id, body, omitted_bytes, created_at)
  select $1, $2, $10, last_seq, $5, $6, $7, $8, $9, $3::timestamptz from exchange returning seq`;

// The row of the exchange is held until the message is committed: numbers are given in the order of commits.
const BEGIN_OR_APPEND = {
  name: "exchange-append-v2",
  text: `
    with exchange as (
      insert into exchanges as e (workspace_id, correlation_id, owner_id, last_seq, created_at, last_at)
      values ($1, $2, $10, 1, $3::timestamptz, $3::timestamptz)
      on conflict (workspace_id, correlation_id, owner_id)
        do update set last_seq = e.last_seq + 1, last_at = greatest(e.last_at, excluded.last_at) where e.last_seq < $4
      returning last_seq
    )${INSERT}`,
};

const APPEND = {
  name: "exchange-append-existing-v2",
  text: `
    with exchange as (
      update exchanges set last_seq = last_seq + 1, last_at = greatest(last_at, $3::timestamptz)
      where workspace_id = $1 and correlation_id = $2 and owner_id = $10 and last_seq < $4
      returning last_seq
    )${INSERT}`,
};

const COLUMNS = "correlation_id, owner_id, seq, principal, task_id, body, omitted_bytes";

const LIST = {
  name: "exchange-list-v2",
  text: `select ${COLUMNS} from exchange_messages
         where workspace_id = $1 and correlation_id = $2 and ($6::text is null or owner_id = $6)
           and (owner_id, seq) > ($3::text, $4::integer) order by owner_id, seq limit $5`,
};

const RECENT = (ofOwner: string) => `
  select ${COLUMNS} from exchange_messages
  where workspace_id = $1 and (created_at, correlation_id, owner_id, seq) < ($2::timestamptz, $3::text, $4::text, $5::integer) ${ofOwner}
  order by created_at desc, correlation_id desc, owner_id desc, seq desc limit $6`;
const RECENT_OF_ALL = { name: "exchange-recent-v2", text: RECENT("") };
const RECENT_OF_OWNER = { name: "exchange-recent-own-v2", text: RECENT("and owner_id = $7") };

const ANSWERABLE = {
  name: "exchange-answerable-v1",
  text: `
    select owner_id from exchanges e
    where workspace_id = $1 and correlation_id = $2 and (owner_id = $3 or $4::boolean or exists (
      select from exchange_messages m join tasks t on t.workspace_id = m.workspace_id and t.task_id = m.task_id
      where m.workspace_id = e.workspace_id and m.correlation_id = e.correlation_id and m.owner_id = e.owner_id and t.agent_id = $5
    ))
    order by owner_id = $3 desc, last_at desc limit 1`,
};

/** Later than every message. */
const NOW: RecentCursor = { at: new Date("9999-12-31T23:59:59Z"), correlationId: "", ownerId: "", seq: 0 };

export function createExchangeRepository(db: Database): ExchangeRepository {
  const { kysely } = db;

  const exists = async (workspaceId: string, correlationId: string, ownerId: string | undefined): Promise<boolean> => {
    const row = await kysely
      .selectFrom("exchanges")
      .select("last_seq")
      .where("workspace_id", "=", workspaceId)
      .where("correlation_id", "=", correlationId)
      .$if(ownerId !== undefined, (q) => q.where("owner_id", "=", ownerId!))
      .limit(1)
      .executeTakeFirst();
    return row !== undefined;
  };

  return {
    async append(workspaceId, { message, principal, taskId }, { ownerId, begins, most }) {
      const { correlationId, kind, createTime } = message;
      const { body, omittedBytes } = keptBody(message);
      const at = createTime && timestampDate(createTime);
      const content = [kind, principal, taskId ?? null, body, omittedBytes];
      const values = [workspaceId, correlationId, at, most, ...content, ownerId];
      const [row] = await db.query(begins ? BEGIN_OR_APPEND : APPEND, values);
      if (row) return row.seq as number;
      return begins || (await exists(workspaceId, correlationId, ownerId)) ? "full" : "missing";
    },

    async answerable(workspaceId, correlationId, { principalId, seesAll, agentId }) {
      const [row] = await db.query(ANSWERABLE, [workspaceId, correlationId, principalId, seesAll, agentId ?? null]);
      return row?.owner_id as string | undefined;
    },

    async list(workspaceId, { correlationId, ownerId }, { after, limit }) {
      const place = [after?.ownerId ?? "", after?.seq ?? 0];
      const values = [workspaceId, correlationId, ...place, limit, ownerId ?? null];
      const rows = await db.reading(workspaceId, (reader) => reader.query(LIST, values));
      if (rows.length === 0 && !(await exists(workspaceId, correlationId, ownerId))) return undefined;
      return rows.map(decode);
    },

    async recent(workspaceId, ownerId, { before = NOW, limit }) {
      const values = [workspaceId, before.at, before.correlationId, before.ownerId, before.seq, limit];
      const rows = await db.reading(workspaceId, (reader) =>
        ownerId === undefined
          ? reader.query(RECENT_OF_ALL, values)
          : reader.query(RECENT_OF_OWNER, [...values, ownerId]),
      );
      return rows.map(decode);
    },

    async count(workspaceId, { correlationId, ownerId }, kind) {
      const { count } = await kysely
        .selectFrom("exchange_messages")
        .select((eb) => eb.cast<number>(eb.fn.countAll(), "integer").as("count"))
        .where("workspace_id", "=", workspaceId)
        .where("correlation_id", "=", correlationId)
        .where("owner_id", "=", ownerId)
        .where("kind", "=", kind)
        .executeTakeFirstOrThrow();
      return count;
    },

    async addQuotes(workspaceId, { correlationId, ownerId }, quotes) {
      if (quotes.length === 0) return;
      const rows = quotes.map((quote) => ({
        workspace_id: workspaceId,
        correlation_id: correlationId,
        owner_id: ownerId,
        quote_id: quote.quoteId,
        body: toBinary(QuoteSchema, quote),
      }));
      await kysely.insertInto("exchange_quotes").values(rows).execute();
    },

    async quote(workspaceId, quoteId, ownerId) {
      const row = await kysely
        .selectFrom("exchange_quotes")
        .select("body")
        .where("workspace_id", "=", workspaceId)
        .where("quote_id", "=", quoteId)
        .$if(ownerId !== undefined, (q) => q.where("owner_id", "=", ownerId!))
        .executeTakeFirst();
      return row && fromBinary(QuoteSchema, row.body);
    },
  };
}

/** What is kept of a message: all of it, or all but what made it too large. */
function keptBody(message: ExchangeMessage): { body: Uint8Array; omittedBytes: number } {
  const body = toBinary(ExchangeMessageSchema, message);
  if (body.length <= MAX_BODY_BYTES) return { body, omittedBytes: 0 };
  const { metadata: _, ...rest } = message;
  return {
    body: toBinary(ExchangeMessageSchema, { ...rest, payload: { case: undefined } }),
    omittedBytes: body.length,
  };
}

const decode = (row: Row): ExchangeRecord => ({
  message: fromBinary(ExchangeMessageSchema, row.body as Uint8Array),
  seq: row.seq as number,
  ownerId: row.owner_id as string,
  principal: row.principal as string,
  taskId: (row.task_id as string | null) ?? undefined,
  omittedBytes: row.omitted_bytes as number,
});
