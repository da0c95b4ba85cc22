/**
 * Hashes of the inner nodes of a Merkle tree, four at a time: SHA-256 over a byte of 1 and two hashes (RFC 6962, section 2.1), in
 * WebAssembly, a node to each lane of its vectors. A call of node:crypto costs more than so short a message takes to hash;
 * whoever verifies a million entries makes a million of them. The module is put together here, from the text of FIPS 180-4. Pure.
 */

/** Nodes that are hashed in one go at most; their input is twice as many hashes. */
export const MOST_NODES = 512;

const HASH_BYTES = 32;
const PAGE_BYTES = 65_536;

// What the types of Node leave to those of browsers.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

export interface NodeHasher {
  /** Room for 2 * MOST_NODES hashes. What is written here is the input, and `reduce` leaves its output at the beginning. */
  readonly hashes: Buffer;
  /** Puts the hash of each of `nodes` pairs, from the first on, in the place of the pairs. */
  reduce(nodes: number): void;
}

/** Takes a few milliseconds. */
export function createNodeHasher(): NodeHasher {
  const { memory, reduce } = new WebAssembly.Instance(compiled()).exports as {
    memory: { readonly buffer: ArrayBuffer };
    reduce(nodes: number): void;
  };
  return { hashes: Buffer.from(memory.buffer, 0, 2 * MOST_NODES * HASH_BYTES), reduce };
}

let module: object | undefined;

function compiled(): object {
  module ??= new WebAssembly.Module(moduleBytes());
  return module;
}

// What follows writes bytecode. An expression is the list of bytes that leaves one value on the stack.

type Code = readonly number[];

const I32 = 0x7f;
const V128 = 0x7b;

const leb = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
};
const signedLeb = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value | 0;
  for (; rest < -64 || rest > 63; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest & 0x7f];
};
const vector = (...items: Code[]): Code => [...leb(items.length), ...items.flat()];
const section = (id: number, content: Code): Code => [id, ...leb(content.length), ...content];

const get = (local: number): Code => [0x20, ...leb(local)];
const set = (local: number, value: Code): Code => [...value, 0x21, ...leb(local)];
const simd = (op: number): Code => [0xfd, ...leb(op)];
const i32 = (value: number): Code => [0x41, ...signedLeb(value)];

const add = (first: Code, ...more: Code[]): Code => [...first, ...more.flatMap((code) => [...code, ...simd(0xae)])];
const xor = (first: Code, ...more: Code[]): Code => [...first, ...more.flatMap((code) => [...code, ...simd(0x51)])];
const or = (a: Code, b: Code): Code => [...a, ...b, ...simd(0x50)];
const left = (value: Code, bits: number): Code => [...value, ...i32(bits), ...simd(0xab)];
const right = (value: Code, bits: number): Code => [...value, ...i32(bits), ...simd(0xad)];
const rotated = (value: Code, bits: number): Code => or(right(value, bits), left(value, 32 - bits));
/** The bits of `a` where `mask` has ones, those of `b` where it has zeros. */
const select = (a: Code, b: Code, mask: Code): Code => [...a, ...b, ...mask, ...simd(0x52)];
const splat = (value: number): Code => [...i32(value), ...simd(0x11)];
/** Turns the bytes of each lane around. */
const turned = (value: Code): Code => [
  ...value,
  ...value,
  ...simd(0x0d),
  ...[3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12],
];

const firstBits = (power: number) => {
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  // A double has the 32 bits behind the point that are asked for of roots below 8.
  return primes.map((prime) => Math.floor((prime ** power % 1) * 2 ** 32) | 0);
};
const ROUND_CONSTANTS = firstBits(1 / 3);
const INITIAL = firstBits(1 / 2).slice(0, 8);

// Locals: the number of nodes, where to read, where to write; then vectors.
const [NODES, FROM, TO] = [0, 1, 2];
const W = 3;
const STATE = W + 16;
const SUM = STATE + 8;
const SCRATCH = SUM + 8;
const LOCALS = SCRATCH + 2 - W;

/** One compression of the block in W into SUM. Registers turn instead of being moved. */
function compression(): Code {
  const code: number[] = [];
  for (let i = 0; i < 8; i++) code.push(...set(STATE + i, get(SUM + i)));
  for (let round = 0; round < 64; round++) {
    const register = (name: number) => STATE + ((name - round) & 7);
    const [a, b, c, d] = [register(0), register(1), register(2), register(3)];
    const [e, f, g, h] = [register(4), register(5), register(6), register(7)];
    const word = (back: number) => W + ((round - back) & 15);
    if (round >= 16) {
      const [early, late] = [get(word(15)), get(word(2))];
      const small0 = xor(rotated(early, 7), rotated(early, 18), right(early, 3));
      const small1 = xor(rotated(late, 17), rotated(late, 19), right(late, 10));
      code.push(...set(word(0), add(get(word(0)), small0, get(word(7)), small1)));
    }
    const big1 = xor(rotated(get(e), 6), rotated(get(e), 11), rotated(get(e), 25));
    const choice = select(get(f), get(g), get(e));
    const first = add(get(h), big1, choice, splat(ROUND_CONSTANTS[round]!), get(word(0)));
    code.push(...set(SCRATCH, first));
    const big0 = xor(rotated(get(a), 2), rotated(get(a), 13), rotated(get(a), 22));
    const majority = select(get(c), get(a), xor(get(a), get(b)));
    code.push(...set(d, add(get(d), get(SCRATCH))));
    code.push(...set(h, add(get(SCRATCH), big0, majority)));
  }
  for (let i = 0; i < 8; i++) code.push(...set(SUM + i, add(get(SUM + i), get(STATE + i))));
  return code;
}

/** Four nodes: their 64 bytes each are read from FROM on, their hashes written from TO on. */
function fourNodes(): Code {
  const code: number[] = [];
  const lanes = [0, 1, 2, 3];
  for (let i = 0; i < 8; i++) code.push(...set(SUM + i, splat(INITIAL[i]!)));
  // The byte of 1 shifts everything: each word is the last byte of the one before it, and three bytes of its own.
  code.push(...set(SCRATCH + 1, splat(1)));
  for (let i = 0; i < 16; i++) {
    let loaded = splat(0);
    for (const lane of lanes) {
      loaded = [...set(SCRATCH, loaded), ...get(FROM), ...get(SCRATCH)];
      loaded = [...loaded, ...simd(0x56), 2, ...leb(lane * 64 + i * 4), lane];
    }
    code.push(...set(SCRATCH, loaded), ...set(SCRATCH, turned(get(SCRATCH))));
    code.push(...set(W + i, or(left(get(SCRATCH + 1), 24), right(get(SCRATCH), 8))));
    code.push(...set(SCRATCH + 1, get(SCRATCH)));
  }
  code.push(...compression());
  // The second block: the last byte, the bit that ends the message, and its length of 65 bytes.
  code.push(...set(W, or(left(get(SCRATCH + 1), 24), splat(0x80_0000))));
  for (let i = 1; i < 15; i++) code.push(...set(W + i, splat(0)));
  code.push(...set(W + 15, splat(65 * 8)));
  code.push(...compression());
  for (let i = 0; i < 8; i++) {
    code.push(...set(SCRATCH, turned(get(SUM + i))));
    for (const lane of lanes) {
      code.push(...get(TO), ...get(SCRATCH), ...simd(0x5a), 2, ...leb(lane * HASH_BYTES + i * 4), lane);
    }
  }
  return code;
}

function moduleBytes(): Uint8Array<ArrayBuffer> {
  const moved = (local: number, by: number): Code => set(local, [...get(local), ...i32(by), 0x6a]);
  const loop: Code = [
    0x03,
    0x40,
    ...fourNodes(),
    ...moved(FROM, 4 * 2 * HASH_BYTES),
    ...moved(TO, 4 * HASH_BYTES),
    ...set(NODES, [...get(NODES), ...i32(4), 0x6b]),
    ...get(NODES),
    ...i32(0),
    0x4a,
    0x0d,
    0,
    0x0b,
  ];
  const locals = vector([...leb(2), I32], [...leb(LOCALS), V128]);
  const body: Code = [...locals, ...loop, 0x0b];
  const name = (text: string): Code => [...leb(text.length), ...Buffer.from(text)];
  // Lanes that are not asked for read and write a little beyond the hashes.
  const pages = (2 * MOST_NODES * HASH_BYTES) / PAGE_BYTES + 1;
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, vector([0x60, ...vector([I32]), ...vector()])),
    ...section(3, vector([0])),
    ...section(5, vector([0x00, ...leb(pages)])),
    ...section(7, vector([...name("memory"), 0x02, 0], [...name("reduce"), 0x00, 0])),
    ...section(10, vector([...leb(body.length), ...body])),
  ]);
}
