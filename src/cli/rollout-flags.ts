/** What `signalbox rollout set` changes: what its flags and its file name, and nothing else. */
import { type DescField, fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type Rollout, RolloutSchema } from "../../gen/signalbox/v1/rollout_pb.ts";
import { decode, readOne } from "./described.ts";
import { fieldLines } from "./field-forms.ts";

export interface RolloutFlags {
  file?: string;
  /** False for `--no-canary`. */
  canary?: string | false;
  canaryAgent?: string;
  canaryVersion?: string;
  rollbackToLocal?: boolean;
  routeMode?: string;
  /** False for `--no-fallback`. */
  fallback?: string[] | false;
  dualEventWrite?: boolean;
}

/** Adds the flags. */
export function addRolloutFlags(command: Command): Command {
  const again = (value: string, values: string[] | false | undefined): string[] => [...(values || []), value];
  return command
    .option("-f, --file <file>", "JSON or YAML with fields of a rollout, as canaryPercent, fallbackChain, hedging")
    .option("--canary <percent>", "give the canary this share of the contexts, from 0 to 100")
    .option("--no-canary", "have no canary")
    .option("--canary-agent <id>", "the agent that is the canary")
    .option("--canary-version <value>", "the canary is whose capability has the label version with this value")
    .option("--rollback-to-local", "send everything to agents in the server's process")
    .option("--no-rollback-to-local", "take that back")
    .option("--route-mode <mode>", "auto, local or remote: where agents may be, when a message does not say it")
    .option(
      "--fallback <target>",
      "who is asked next, as a.AGENT or c.CAPABILITY, with conditions if not for all, as c.plain:full,failed; may be repeated",
      again,
    )
    .option("--no-fallback", "have no fallback chain")
    .option("--dual-event-write", "write the event keys of A2A 0.3 beside the standard ones")
    .option("--no-dual-event-write", "take that back")
    .addHelpText("after", () => `\nFields of the file:\n${fieldLines(RolloutSchema)}`);
}

/** The change, and the paths that it names. Ends the command where nothing is named, or what is cannot be read. */
export function changeOf(command: Command, flags: RolloutFlags): { change: Rollout; paths: string[] } {
  const said = flags.file === undefined ? {} : readFile(command, flags.file);
  const fields = { ...said, ...fieldsOf(command, flags) };
  let change: Rollout;
  try {
    change = fromJson(RolloutSchema, fields);
  } catch (error) {
    return command.error(`error: this is no rollout: ${(error as Error).message}`);
  }
  const paths = RolloutSchema.fields
    .filter((field) => isNamed(field, fields) && !IDENTITY.includes(field.name))
    .map(({ name }) => name);
  if (paths.length === 0) command.error("error: nothing to change: give a flag, or a file with --file.");
  return { change, paths };
}

/** What a rollout that was read tells of itself, and a mask does not name. The etag guards the change all the same. */
const IDENTITY: readonly string[] = ["capability_id", "etag", "update_time"];

const isNamed = ({ name, jsonName }: DescField, fields: JsonObject): boolean => name in fields || jsonName in fields;

/** What a file says, under the names that it uses. */
const readFile = (command: Command, path: string): JsonObject =>
  readOne(
    command,
    path,
    "Rollout",
    (described, problems) => decode(RolloutSchema, described, problems) && described.fields,
  );

function fieldsOf(command: Command, flags: RolloutFlags): JsonObject {
  const { canary, canaryAgent, canaryVersion, rollbackToLocal, routeMode, fallback, dualEventWrite } = flags;
  if (canaryAgent !== undefined && canaryVersion !== undefined)
    command.error("error: give --canary-agent or --canary-version, not both: the canary is one or the other.");
  const target: JsonValue | undefined =
    canaryAgent !== undefined
      ? { agentId: canaryAgent }
      : canaryVersion !== undefined
        ? { version: canaryVersion }
        : undefined;
  return {
    ...(canary === false && { canaryEnabled: false }),
    ...(typeof canary === "string" && { canaryEnabled: true, canaryPercent: percentOf(command, canary) }),
    ...(target && { canaryTarget: target }),
    ...(rollbackToLocal !== undefined && { rollbackToLocal }),
    ...(routeMode !== undefined && { routeModeDefault: `ROUTE_MODE_${routeMode.toUpperCase()}` }),
    ...(fallback === false && { fallbackChain: [] }),
    ...(Array.isArray(fallback) && { fallbackChain: fallback.map((step) => stepOf(command, step)) }),
    ...(dualEventWrite === true && { dualEventWrite, compatibilityMode: "COMPATIBILITY_MODE_A2A_0_3" }),
    ...(dualEventWrite === false && { dualEventWrite }),
  };
}

function percentOf(command: Command, text: string): number {
  if (!/^\d{1,9}$/.test(text)) command.error("error: --canary takes a whole number of percent, such as 10.");
  return Number(text);
}

function stepOf(command: Command, text: string): JsonObject {
  const [, kind, id = "", conditions] = /^([ac])\.([^:]+)(?::(.+))?$/.exec(text) ?? [];
  if (kind === undefined)
    command.error(`error: --fallback ${text}: write it as a.AGENT or c.CAPABILITY, with :full,failed if not for all.`);
  const named: JsonObject = kind === "a" ? { agentId: id } : { capabilityId: id };
  if (conditions === undefined) return named;
  const names = conditions.split(",").map((name) => `FALLBACK_CONDITION_${name.toUpperCase().replaceAll("-", "_")}`);
  return { ...named, conditions: names };
}
