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
  /** In its exchange: from 1, without gaps. */
  seq: number;
  /** How large a message was that is kept without payload and metadata; 0 for one that is whole. */
  omittedBytes: number;
}

export interface AppendOptions {
  /** Whether a message may begin an exchange. */
  begins: boolean;
  /** Messages that the exchange may have by then. */
  most: number;
}

/** Where a page over all exchanges goes on: the last message of the page before. */
export interface RecentCursor {
  at: Date;
  correlationId: string;
  seq: number;
}

export interface ExchangeRepository {
  /**
   * Adds a message to its exchange and returns its number. "missing": there is no such exchange, and the message does not
   * begin one; "full": the exchange has `most` messages.
   */
  append(workspaceId: string, record: NewRecord, options: AppendOptions): Promise<number | "missing" | "full">;
  /** The messages of an exchange after number `after`. Undefined: there is no such exchange. */
  list(
    workspaceId: string,
    correlationId: string,
    page: { after: number; limit: number },
  ): Promise<ExchangeRecord[] | undefined>;
  /** The messages of all exchanges, the latest first. */
  recent(workspaceId: string, page: { before?: RecentCursor; limit: number }): Promise<ExchangeRecord[]>;
  /** How many messages of a kind an exchange has. */
  count(workspaceId: string, correlationId: string, kind: ExchangeKind): Promise<number>;
  /** Keeps quotes as long as their exchange. */
  addQuotes(workspaceId: string, correlationId: string, quotes: readonly Quote[]): Promise<void>;
  quote(workspaceId: string, quoteId: string): Promise<Quote | undefined>;
}

const INSERT = `
  insert into exchange_messages
    (workspace_id, correlation_id, seq, kind, principal, task_id, body, omitted_bytes, created_at)
  select $1, $2, last_seq, $5, $6, $7, $8, $9, $3::timestamptz from exchange returning seq`;

// The row of the exchange is held until the message is committed: numbers are given in the order of commits.
const BEGIN_OR_APPEND = {
  name: "exchange-append-v1",
  text: `
    with exchange as (
      insert into exchanges as e (workspace_id, correlation_id, last_seq, created_at, last_at)
      values ($1, $2, 1, $3::timestamptz, $3::timestamptz)
      on conflict (workspace_id, correlation_id)
        do update set last_seq = e.last_seq + 1, last_at = greatest(e.last_at, excluded.last_at) where e.last_seq < $4
      returning last_seq
    )${INSERT}`,
};

const APPEND = {
  name: "exchange-append-existing-v1",
  text: `
    with exchange as (
      update exchanges set last_seq = last_seq + 1, last_at = greatest(last_at, $3::timestamptz)
      where workspace_id = $1 and correlation_id = $2 and last_seq < $4
      returning last_seq
    )${INSERT}`,
};

const COLUMNS = "correlation_id, seq, principal, task_id, body, omitted_bytes";

const LIST = {
  name: "exchange-list-v1",
  text: `select ${COLUMNS} from exchange_messages
         where workspace_id = $1 and correlation_id = $2 and seq > $3 order by seq limit $4`,
};

const RECENT = {
  name: "exchange-recent-v1",
  text: `select ${COLUMNS} from exchange_messages
         where workspace_id = $1 and (created_at, correlation_id, seq) < ($2::timestamptz, $3::text, $4::integer)
         order by created_at desc, correlation_id desc, seq desc limit $5`,
};

/** Later than every message. */
const NOW: RecentCursor = { at: new Date("9999-12-31T23:59:59Z"), correlationId: "", seq: 0 };

export function createExchangeRepository(db: Database): ExchangeRepository {
  const { kysely } = db;

  const exists = async (workspaceId: string, correlationId: string): Promise<boolean> => {
    const row = await kysely
      .selectFrom("exchanges")
      .select("last_seq")
      .where("workspace_id", "=", workspaceId)
      .where("correlation_id", "=", correlationId)
      .executeTakeFirst();
    return row !== undefined;
  };

  return {
    async append(workspaceId, { message, principal, taskId }, { begins, most }) {
      const { correlationId, kind, createTime } = message;
      const { body, omittedBytes } = keptBody(message);
      const at = createTime && timestampDate(createTime);
      const values = [workspaceId, correlationId, at, most, kind, principal, taskId ?? null, body, omittedBytes];
      const [row] = await db.query(begins ? BEGIN_OR_APPEND : APPEND, values);
      if (row) return row.seq as number;
      return begins || (await exists(workspaceId, correlationId)) ? "full" : "missing";
    },

    async list(workspaceId, correlationId, { after, limit }) {
      const rows = await db.reading(workspaceId, (reader) =>
        reader.query(LIST, [workspaceId, correlationId, after, limit]),
      );
      if (rows.length === 0 && !(await exists(workspaceId, correlationId))) return undefined;
      return rows.map(decode);
    },

    async recent(workspaceId, { before = NOW, limit }) {
      const { at, correlationId, seq } = before;
      const values = [workspaceId, at, correlationId, seq, limit];
      return (await db.reading(workspaceId, (reader) => reader.query(RECENT, values))).map(decode);
    },

    async count(workspaceId, correlationId, kind) {
      const { count } = await kysely
        .selectFrom("exchange_messages")
        .select((eb) => eb.cast<number>(eb.fn.countAll(), "integer").as("count"))
        .where("workspace_id", "=", workspaceId)
        .where("correlation_id", "=", correlationId)
        .where("kind", "=", kind)
        .executeTakeFirstOrThrow();
      return count;
    },

    async addQuotes(workspaceId, correlationId, quotes) {
      if (quotes.length === 0) return;
      const rows = quotes.map((quote) => ({
        workspace_id: workspaceId,
        correlation_id: correlationId,
        quote_id: quote.quoteId,
        body: toBinary(QuoteSchema, quote),
      }));
      await kysely.insertInto("exchange_quotes").values(rows).execute();
    },

    async quote(workspaceId, quoteId) {
      const row = await kysely
        .selectFrom("exchange_quotes")
        .select("body")
        .where("workspace_id", "=", workspaceId)
        .where("quote_id", "=", quoteId)
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
  principal: row.principal as string,
  taskId: (row.task_id as string | null) ?? undefined,
  omittedBytes: row.omitted_bytes as number,
});
