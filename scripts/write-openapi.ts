/**
 * Writes docs/openapi.json: our own routes, for tools that read OpenAPI 3.1. Made from proto/, comments included.
 *
 *     node scripts/write-openapi.ts [--check]
 *
 * With `--check` it writes nothing, and fails when the file is not what it would write.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorSet, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import project from "../package.json" with { type: "json" };
import { commentsOf } from "./openapi/comments.ts";
import { openapiDocument } from "./openapi/document.ts";
import { ROOT } from "./run.ts";

const FILE = join("docs", "openapi.json");

/** All protos, with their comments, which descriptors in gen/ do not have. */
function protos(): FileDescriptorSet {
  const buf = join(ROOT, "node_modules", ".bin", "buf");
  const { status, stdout, stderr } = spawnSync(buf, ["build", "-o", "-#format=binpb"], {
    cwd: ROOT,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (status !== 0) throw new Error(`buf build failed: ${stderr}`);
  return fromBinary(FileDescriptorSetSchema, stdout);
}

const files = protos();
const methods = [...createFileRegistry(files).files]
  .filter(({ proto }) => proto.package === "signalbox.v1")
  .toSorted((a, b) => (a.name < b.name ? -1 : 1))
  .flatMap(({ services }) => services.flatMap((service) => service.methods));
const comments = new Map(files.file.flatMap((file) => [...commentsOf(file)]));
const document = openapiDocument({ version: project.version, methods, comments });
const text = `${JSON.stringify(document, null, 2)}\n`;
if (!process.argv.includes("--check")) writeFileSync(join(ROOT, FILE), text);
else if (readFileSync(join(ROOT, FILE), "utf8") !== text) {
  console.error(`${FILE}: out of date\nRun "npm run generate" and commit the result.`);
  process.exitCode = 1;
}
