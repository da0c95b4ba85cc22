/**
 * Arrays as PostgreSQL sends and receives them in binary: the hot statements consist of arrays, and these need no quoting
 * here and no parsing there. node-postgres sends a Buffer as it is, in binary.
 *
 * An array is its number of dimensions, whether it holds NULL, the type of its elements; then, unless it is empty, its
 * length, its lower bound, and each element with its own length before it. All numbers are big-endian.
 */

/** Object ids of types, from PostgreSQL's catalog. */
const OID = { bool: 16, bytea: 17, int8: 20, int2: 21, int4: 23, text: 25, float8: 701, timestamptz: 1184 };

const EMPTY_BYTES = 12;
const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;
const TWO_TO_32 = 2 ** 32;
/** timestamptz counts microseconds from the beginning of 2000, UTC. */
const EPOCH_MS = Date.UTC(2000, 0, 1);

// Arrays are written one after the other into a piece of memory; when it is full, the next piece is taken. The arrays keep
// their piece alive for as long as somebody has them.
const PIECE_BYTES = 64 * 1024;
let memory = Buffer.alloc(0);
let view = new DataView(memory.buffer);
/** Where the array begins that is being written, and where it has come to. */
let begin = 0;
let end = 0;

/** Makes room for so many bytes at the end of the array that is being written. */
function reserve(bytes: number): void {
  if (end + bytes <= memory.length) return;
  const written = memory.subarray(begin, end);
  memory = Buffer.allocUnsafeSlow(Math.max(PIECE_BYTES, 2 * (written.length + bytes)));
  view = new DataView(memory.buffer);
  memory.set(written);
  begin = 0;
  end = written.length;
}

/**
 * One value of each item as an array of one type. Undefined and null are NULL. An array that would hold nothing else is not
 * sent at all: it is null, and beside a column that is whole unnest pads it.
 */
export type ArrayOf<Value> = <Item>(
  items: readonly Item[],
  pick: (item: Item, index: number) => Value | null | undefined,
) => Buffer | null;

/** `write` adds an element at the end, and reserves what it takes. */
function arrayOf<Value>(oid: number, write: (value: Value) => void): ArrayOf<Value> {
  return (items, pick) => {
    begin = end;
    reserve(HEADER_BYTES);
    end += items.length === 0 ? EMPTY_BYTES : HEADER_BYTES;
    let nulls = 0;
    for (let i = 0; i < items.length; i++) {
      const value = pick(items[i]!, i);
      reserve(LENGTH_BYTES);
      const length = end - begin;
      end += LENGTH_BYTES;
      if (value === null || value === undefined) {
        nulls += 1;
        view.setInt32(begin + length, NULL_LENGTH);
      } else {
        write(value);
        view.setInt32(begin + length, end - begin - length - LENGTH_BYTES);
      }
    }
    view.setInt32(begin, items.length === 0 ? 0 : 1);
    view.setInt32(begin + 4, nulls === 0 ? 0 : 1);
    view.setInt32(begin + 8, oid);
    if (items.length > 0) {
      if (nulls === items.length) {
        end = begin;
        return null;
      }
      view.setInt32(begin + 12, items.length);
      view.setInt32(begin + 16, 1);
    }
    return memory.subarray(begin, end);
  };
}

export const textArray: ArrayOf<string> = arrayOf(OID.text, (value) => {
  // No character of UTF-16 takes more than three bytes of UTF-8.
  reserve(3 * value.length);
  end += memory.write(value, end);
});

export const byteaArray: ArrayOf<Uint8Array> = arrayOf(OID.bytea, (value) => {
  reserve(value.length);
  memory.set(value, end);
  end += value.length;
});

export const boolArray: ArrayOf<boolean> = arrayOf(OID.bool, (value) => {
  reserve(1);
  memory[end] = value ? 1 : 0;
  end += 1;
});

export const int2Array: ArrayOf<number> = arrayOf(OID.int2, (value) => {
  reserve(2);
  view.setInt16(end, value);
  if (view.getInt16(end) !== value) throw outOfRange("int2", value);
  end += 2;
});

export const int4Array: ArrayOf<number> = arrayOf(OID.int4, (value) => {
  reserve(4);
  view.setInt32(end, value);
  if (view.getInt32(end) !== value) throw outOfRange("int4", value);
  end += 4;
});

export const int8Array: ArrayOf<number> = arrayOf(OID.int8, (value) => {
  if (!Number.isSafeInteger(value)) throw outOfRange("int8", value);
  writeInt8(value);
});

export const float8Array: ArrayOf<number> = arrayOf(OID.float8, (value) => {
  reserve(8);
  view.setFloat64(end, value);
  end += 8;
});

export const timestamptzArray: ArrayOf<Date> = arrayOf(OID.timestamptz, (value) => {
  const time = value.getTime();
  if (Number.isNaN(time)) throw new UnfitValueError("an invalid Date is no timestamptz");
  const microseconds = (time - EPOCH_MS) * 1000;
  if (Number.isSafeInteger(microseconds)) return writeInt8(microseconds);
  // Centuries away.
  reserve(8);
  view.setBigInt64(end, BigInt(time - EPOCH_MS) * 1000n);
  end += 8;
});

function writeInt8(value: number): void {
  reserve(8);
  view.setInt32(end, Math.floor(value / TWO_TO_32));
  // Takes the lower 32 bits, of negative numbers too.
  view.setUint32(end + 4, value);
  end += 8;
}

/** Rather than another number. */
const outOfRange = (type: string, value: number): UnfitValueError => new UnfitValueError(`${value} is no ${type}`);

/** A value that its type does not have. Nothing was sent. */
export class UnfitValueError extends RangeError {}
