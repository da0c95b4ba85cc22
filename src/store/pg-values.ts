/** Values between JavaScript and PostgreSQL, where node-postgres has other habits than ours. */
import pg from "pg";

// Dates are sent in UTC: in local time node-postgres rounds the offsets of old dates to minutes.
pg.defaults.parseInputDatesAsUTC = true;

// Object ids of types, from PostgreSQL's catalog.
const BYTEA = 17;
const INT8 = 20;
const BYTEA_ARRAY = 1001;
const INT8_ARRAY = 1016;

/** int8 as number, bytea as Uint8Array, the rest as node-postgres does it: timestamptz as Date, json parsed. */
export const valueTypes: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (format === "binary") return pg.types.getTypeParser(oid, "binary");
    switch (oid) {
      case INT8:
        return parseInt8;
      case BYTEA:
        return parseBytea;
      case INT8_ARRAY:
        return (text: string) => parseArray(text, parseInt8);
      case BYTEA_ARRAY:
        return (text: string) => parseArray(text, parseBytea);
      default:
        return pg.types.getTypeParser(oid, "text");
    }
  },
};

/** Throws rather than round: all our counters stay far below 2^53. */
function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`int8 ${text} is beyond the safe integers of JavaScript`);
  return value;
}

/** PostgreSQL writes bytea as `\x` and hexadecimal digits. */
function parseBytea(text: string): Uint8Array {
  const buffer = Buffer.from(text.slice(2), "hex");
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

function parseArray<T>(text: string, parse: (entry: string) => T): T[] {
  // Its types call it a function; it is an object that makes parsers.
  const { create } = pg.types.arrayParser as unknown as {
    create(text: string, parse: (entry: string) => T): { parse(): T[] };
  };
  return create(text, parse).parse();
}
