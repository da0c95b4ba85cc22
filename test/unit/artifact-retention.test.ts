import { create, equals, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ArtifactSchema, PartSchema, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { isEmptied, RETENTION_EXTENSION, withoutContents } from "../../src/domain/artifact-retention.ts";
import { missingFields } from "../../src/domain/required-fields.ts";

const at = new Date("2026-01-31T12:00:00.123Z");
const MARK = { [RETENTION_EXTENSION]: { removedAt: at.toISOString() } };

const part = fc
  .record({
    text: fc.constantFrom("", "secret"),
    filename: fc.constantFrom("", "secret.txt"),
    metadata: fc.constantFrom(undefined, { of: "secret" }),
  })
  .map(({ text, ...rest }) => create(PartSchema, { ...rest, content: { case: "text", value: text } }));
const update = fc
  .record({
    parts: fc.array(part, { minLength: 1, maxLength: 3 }),
    metadata: fc.constantFrom(
      undefined,
      { of: "secret" },
      MARK,
      { ...MARK, of: "secret" },
      { [RETENTION_EXTENSION]: { removedAt: "secret" } },
      { [RETENTION_EXTENSION]: { removedAt: at.toISOString(), of: "secret" } },
    ),
    extensions: fc.constantFrom<string[]>([], ["urn:secret"]),
    beside: fc.constantFrom(undefined, { of: "secret" }),
    append: fc.boolean(),
    lastChunk: fc.boolean(),
  })
  .map(({ parts, metadata, extensions, beside, append, lastChunk }) =>
    create(StreamResponseSchema, {
      payload: {
        case: "artifactUpdate",
        value: {
          taskId: "t",
          contextId: "c",
          append,
          lastChunk,
          metadata: beside,
          artifact: create(ArtifactSchema, {
            artifactId: "a",
            name: "n",
            description: "d",
            parts,
            metadata,
            extensions,
          }),
        },
      },
    }),
  );

test("whatever an artifact holds is gone, and what says which it was stays", () => {
  fc.assert(
    fc.property(update, (full) => {
      const emptied = withoutContents(full, at) ?? full;
      expect(JSON.stringify(emptied)).not.toContain("secret");
      expect(missingFields(StreamResponseSchema, emptied)).toEqual([]);
      if (full.payload.case !== "artifactUpdate" || emptied.payload.case !== "artifactUpdate")
        throw new Error("no update");
      const { taskId, contextId, append, lastChunk, artifact } = full.payload.value;
      const { artifactId, name, description } = artifact!;
      expect(emptied.payload.value).toMatchObject({ taskId, contextId, append, lastChunk });
      expect(emptied.payload.value.artifact).toMatchObject({ artifactId, name, description, metadata: MARK });
      expect(isEmptied(emptied.payload.value.artifact!)).toBe(true);
      // What is empty stays as it is, and is read as it was written.
      expect(withoutContents(emptied, new Date())).toBeUndefined();
      const read = fromBinary(StreamResponseSchema, toBinary(StreamResponseSchema, emptied));
      expect(equals(StreamResponseSchema, read, create(StreamResponseSchema, emptied))).toBe(true);
    }),
  );
});

test("other updates hold no artifacts", () => {
  const status = create(StreamResponseSchema, { payload: { case: "statusUpdate", value: { taskId: "t" } } });
  expect(withoutContents(status, at)).toBeUndefined();
});
