/** `signalbox capabilities`: what the agents behind the server can do. */
import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { Access, type Capability, CapabilitySchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { capabilityOf } from "./apply-capabilities.ts";
import { readOne } from "./described.ts";
import { fieldLines } from "./field-forms.ts";
import { facts, json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ListFlags extends ServerOptions {
  agent?: string;
}

interface AddFlags extends ServerOptions {
  file: string;
}

export function addCapabilitiesCommands(program: Command, cli: Cli): void {
  const capabilities = program.command("capabilities").description("list, add and remove what agents can do");
  const { io } = cli;

  const list = capabilities
    .command("list")
    .description("list what the agents can do, with an entry for each agent that offers it")
    .option("--agent <id>", "only what this agent offers");
  withServer(list).action((options: ListFlags) =>
    callServer(cli, options, async ({ registry }) => {
      const found: Capability[] = [];
      let pageToken = "";
      do {
        const page = await registry.listCapabilities({ agentId: options.agent ?? "", pageSize: 100, pageToken });
        found.push(...page.capabilities);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      if (options.json) io.out(json({ capabilities: found.map((one) => toJson(CapabilitySchema, one)) }));
      else io.out(capabilityTable(found));
    }),
  );

  const add = capabilities
    .command("add <agent>")
    .description("give an agent a capability, or say more of one that its card has")
    .requiredOption(
      "-f, --file <file>",
      "JSON or YAML: capabilityId, and whatever is to be said, as costPerTask, labels",
    )
    .addHelpText(
      "after",
      () => `\nFields of the file, which docs/routing.md explains:\n${fieldLines(CapabilitySchema)}`,
    );
  withServer(add).action((agentId: string, options: AddFlags) => {
    const capability = readOne(add, options.file, "Capability", capabilityOf);
    return callServer(cli, options, async ({ registry }) => {
      const added = await registry.addCapability({ agentId, capability });
      io.out(options.json ? json(toJson(CapabilitySchema, added)) : capabilityText(added));
    });
  });

  const remove = capabilities
    .command("remove <agent> <capability>")
    .description("take back what was added; of a skill of the agent's card, what the card says is left");
  withServer(remove).action((agentId: string, capabilityId: string, options: ServerOptions) =>
    callServer(cli, options, async ({ registry }) => {
      await registry.removeCapability({ agentId, capabilityId });
      io.out(
        options.json ? json({}) : `What was added to capability ${capabilityId} of agent ${agentId} is removed.\n`,
      );
    }),
  );
}

function capabilityTable(capabilities: readonly Capability[]): string {
  if (capabilities.length === 0) {
    return 'No capabilities. They are the skills of agents\' cards, and what "signalbox capabilities add" says.\n';
  }
  const rows = capabilities.map((capability) => [
    capability.capabilityId,
    capability.agentId,
    capability.name,
    accessName(capability),
    capability.costPerTask,
    capability.tags.join(","),
    labelsText(capability),
  ]);
  return table(["CAPABILITY", "AGENT", "NAME", "ACCESS", "COST", "TAGS", "LABELS"], rows);
}

function capabilityText(capability: Capability): string {
  const { averageLatencyMs, maxConcurrency } = capability;
  return facts([
    ["Capability", capability.capabilityId],
    ["Agent", capability.agentId],
    ["Skill", capability.skillId],
    ["Name", capability.name],
    ["About", capability.description],
    ["Tags", capability.tags.join(", ")],
    ["Takes", capability.inputModes.join(", ")],
    ["Gives", capability.outputModes.join(", ")],
    ["Cost", capability.costPerTask],
    ["Latency", averageLatencyMs > 0n ? `${averageLatencyMs} ms` : ""],
    ["At once", maxConcurrency > 0 ? String(maxConcurrency) : ""],
    ["Promised", promisedText(capability)],
    ["Access", accessName(capability)],
    ["Safe to repeat", capability.safeToRepeat ? "yes" : "no"],
    ["Labels", labelsText(capability)],
    ["Cached", capability.cacheTtlMs > 0n ? cachedText(capability) : ""],
    ["Schemas", schemasText(capability)],
  ]);
}

const accessName = ({ access, accessDeclared }: Capability): string =>
  accessDeclared ? (access === Access.READ ? "READ" : "WRITE") : "-";

function promisedText({ serviceLevel, serviceLevelDeclared }: Capability): string {
  if (!serviceLevel) return "";
  const level = `${serviceLevel.maxLatencyMs} ms, ${percentOf(serviceLevel.availability)} % available`;
  return serviceLevelDeclared ? level : `nothing; by default it is held to ${level}`;
}

const labelsText = ({ labels }: Capability): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(",");

const cachedText = ({ cacheTtlMs, cacheShared }: Capability): string =>
  `${Number(cacheTtlMs) / 1000} s, for ${cacheShared ? "everybody in the workspace" : "the same principal"}`;

const schemasText = ({ inputSchema, outputSchema }: Capability): string =>
  [inputSchema && "input", outputSchema && "output"].filter(Boolean).join(", ");

/** Without the digits that come of a share being a binary number. */
const percentOf = (share: number): number => Number((share * 100).toPrecision(12));
