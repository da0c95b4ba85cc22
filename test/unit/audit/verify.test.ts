/** The verifier of exported logs: whatever is done to one entry is found at its place. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { originOf, publicBytes, readNote, signCheckpoint } from "../../../src/domain/audit/checkpoint.ts";
import { rootOf } from "../../../src/domain/audit/merkle.ts";
import { createLogVerifier, type Verdict, type VerifyOptions } from "../../../src/domain/audit/verify.ts";
import { endLines, fileOf, keyOf, makeLog, ORIGIN } from "../../fixtures/audit-log.ts";

const trusted = { publicKey: publicBytes(keyOf("first")) };

function verify(file: Buffer, options: VerifyOptions = { trusted }, chunk = 65_536): Verdict {
  const verifier = createLogVerifier(options);
  for (let at = 0; at < file.length; at += chunk) verifier.feed(file.subarray(at, at + chunk));
  return verifier.end();
}

const spans = fc.array(
  fc.record({ chain: fc.constantFrom("r1/a", "r1/s", "r2/a"), count: fc.integer({ min: 1, max: 6 }) }),
  {
    minLength: 1,
    maxLength: 12,
  },
);

/** A log with one entry of it, and another. */
const logs = fc
  .record({ spans, one: fc.nat(), other: fc.nat(), chunk: fc.integer({ min: 1, max: 4_000 }) })
  .map((given) => {
    const log = makeLog(given.spans);
    const { lines } = log;
    const end = endLines(log);
    return { log, lines, end, one: given.one % lines.length, other: given.other % lines.length, chunk: given.chunk };
  });

describe("an exported log", () => {
  test("is intact as it was made, in whatever pieces it comes", () => {
    fc.assert(
      fc.property(logs, ({ lines, end, chunk }) => {
        const verdict = verify(fileOf([...lines, ...end]), { trusted }, chunk);
        expect(verdict).toMatchObject({ intact: true, fault: undefined, entries: lines.length });
        expect(verdict.checkpoint).toMatchObject({ origin: "example.com/audit/default", size: lines.length });
      }),
    );
  });

  test("shows where an entry was edited, at any byte", () => {
    fc.assert(
      fc.property(logs, fc.nat(), fc.integer({ min: 1, max: 255 }), ({ lines, end, one, chunk }, byte, flip) => {
        const bytes = Buffer.from(lines[one]!);
        const at = byte % bytes.length;
        // A line feed would be two lines.
        bytes[at] = (bytes[at]! ^ flip) === 0x0a ? 0x0b : bytes[at]! ^ flip;
        fc.pre(bytes.compare(Buffer.from(lines[one]!)) !== 0);
        const before = fileOf(lines.slice(0, one));
        const after = fileOf([...lines.slice(one + 1), ...end]);
        const { fault } = verify(Buffer.concat([before, bytes, Buffer.from("\n"), after]), { trusted }, chunk);
        expect(fault).toMatchObject({ kind: "EDITED", index: one });
      }),
      { numRuns: 150 },
    );
  });

  test("shows which entry was removed", () => {
    fc.assert(
      fc.property(logs, ({ lines, end, one, chunk }) => {
        const { fault } = verify(fileOf([...lines.toSpliced(one, 1), ...end]), { trusted }, chunk);
        expect(fault).toMatchObject({ kind: one === lines.length - 1 ? "TRUNCATED" : "REMOVED", index: one });
      }),
    );
  });

  test("shows where it was cut off, with its last line or without", () => {
    fc.assert(
      fc.property(logs, fc.boolean(), ({ lines, end, one, chunk }, withEnd) => {
        const { fault } = verify(fileOf([...lines.slice(0, one), ...(withEnd ? end : [])]), { trusted }, chunk);
        expect(fault).toMatchObject({ kind: "TRUNCATED", index: one });
      }),
    );
  });

  test("shows where it was cut off in the middle of a line", () => {
    fc.assert(
      fc.property(logs, fc.nat(), ({ lines, end, chunk }, cut) => {
        const file = fileOf([...lines, ...end]);
        const cutFile = file.subarray(0, cut % (file.length - 1));
        const { fault } = verify(cutFile, { trusted }, chunk);
        const whole = Math.min(lines.length, cutFile.toString("latin1").split("\n").length - 1);
        expect(fault).toMatchObject({ kind: "TRUNCATED", index: whole });
      }),
    );
  });

  test("shows where an entry was put in a second time", () => {
    fc.assert(
      fc.property(logs, ({ lines, end, one, other, chunk }) => {
        const { fault } = verify(fileOf([...lines.toSpliced(other + 1, 0, lines[one]!), ...end]), { trusted }, chunk);
        expect(fault).toMatchObject({ kind: "INSERTED", index: one === other + 1 ? one + 1 : other + 1 });
      }),
    );
  });

  test("shows where a foreign entry was put in", () => {
    fc.assert(
      fc.property(logs, fc.constantFrom("", "{}", '{"chain":"r9/a","n":1}', "rubbish"), ({ lines, end, one }, line) => {
        expect(verify(fileOf([...lines.toSpliced(one, 0, line), ...end])).fault).toMatchObject({
          kind: "INSERTED",
          index: one,
        });
      }),
    );
  });

  test("shows which entries were swapped", () => {
    fc.assert(
      fc.property(logs, ({ lines, end, one, other, chunk }) => {
        fc.pre(one !== other);
        const swapped = lines.with(one, lines[other]!).with(other, lines[one]!);
        const { fault } = verify(fileOf([...swapped, ...end]), { trusted }, chunk);
        expect(fault).toMatchObject({ kind: "REORDERED", index: Math.min(one, other) });
      }),
    );
  });

  test("is not believed with a checkpoint of another key, of another log, or that says something else", () => {
    const log = makeLog([{ chain: "r1/a", count: 5 }]);
    const file = (key = keyOf("first")) => fileOf([...log.lines, ...endLines(log, key)]);
    expect(verify(file(keyOf("mine"))).fault).toMatchObject({ kind: "SIGNATURE", index: 5 });
    expect(verify(file(), { trusted: { ...trusted, name: "example.com/audit/other" } }).fault?.kind).toBe("SIGNATURE");
    expect(verify(file(), {}).intact).toBe(true);
    const other = makeLog([{ chain: "r2/a", count: 5 }]);
    expect(verify(fileOf([...log.lines, ...endLines(other)])).fault).toMatchObject({ kind: "EDITED", index: 0 });
    const [seal] = endLines(log).slice(-1);
    expect(verify(fileOf([...log.lines, ...endLines(log), seal!])).fault).toMatchObject({ kind: "INSERTED", index: 5 });
    expect(verify(fileOf([...log.lines, seal!])).intact).toBe(true);
    expect(verify(Buffer.alloc(0)).fault).toMatchObject({ kind: "TRUNCATED", index: 0 });
  });

  test("begins with the checkpoint that was seen before, or has been forked", () => {
    fc.assert(
      fc.property(logs, ({ log, lines, end, one, chunk }) => {
        const origin = originOf(ORIGIN, "default");
        const pin = (size: number, root: Buffer) => readNote(signCheckpoint({ origin, size, root }, [keyOf("first")]))!;
        const file = fileOf([...lines, ...end]);
        const honest = pin(one, rootOf(log.hashes.slice(0, one)));
        expect(verify(file, { trusted, pinned: honest }, chunk).intact).toBe(true);
        const forked = pin(one, rootOf([...log.hashes.slice(0, one), log.hashes[0]!]));
        expect(verify(file, { trusted, pinned: forked }, chunk).fault?.kind).toBe("TREE");
        const later = pin(lines.length + 1, forked.root as Buffer);
        expect(verify(file, { trusted, pinned: later }, chunk).fault).toMatchObject({
          kind: "TRUNCATED",
          index: lines.length,
        });
        const other = readNote(signCheckpoint({ ...honest, origin: originOf(ORIGIN, "other") }, [keyOf("first")]))!;
        expect(verify(file, { trusted, pinned: other }, chunk).fault?.kind).toBe("SIGNATURE");
      }),
    );
  });

  test("may be long", () => {
    const log = makeLog([
      { chain: "r1/a", count: 9_000 },
      { chain: "r2/a", count: 3 },
      { chain: "r1/a", count: 8_000 },
    ]);
    const file = fileOf([...log.lines, ...endLines(log)]);
    expect(verify(file).intact).toBe(true);
    expect(
      verify(Buffer.concat([file.subarray(0, 100), Buffer.alloc(3_000_000, 0x20), file.subarray(100)])).fault,
    ).toMatchObject({
      kind: "EDITED",
      index: 0,
    });
  });
});
