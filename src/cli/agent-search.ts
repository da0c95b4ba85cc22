/** `signalbox agents search`: finds agents by what they can do. */
import { toJson } from "@bufbuild/protobuf";
import { type Command, InvalidArgumentError } from "commander";
import { type FoundAgent, SearchAgentsResponseSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface SearchFlags extends ServerOptions {
  tag: string[];
  label: string[];
  capability?: string;
}

/** Capabilities that the table names for an agent. */
const NAMED_CAPABILITIES = 5;

export function addAgentSearchCommand(agents: Command, cli: Cli): void {
  const { io } = cli;
  const search = agents
    .command("search [text...]")
    .description("find agents by what they can do; the best match comes first")
    .option("--tag <tag>", "only with a capability that has this tag; may be given more than once", gather, [])
    .option("--label <key=value>", "the same for a label", gatherLabel, [])
    .option("--capability <id>", "only those that offer this capability");
  withServer(search).action((words: string[], options: SearchFlags) => {
    const { tag: tags, label: labels, capability: capabilityId = "" } = options;
    if (words.length + tags.length + labels.length === 0 && capabilityId === "") {
      return search.error("error: nothing to search for: give words, --tag, --label or --capability.");
    }
    return callServer(cli, options, async ({ registry }) => {
      const found = await registry.searchAgents({ text: words.join(" "), tags, labels, capabilityId, pageSize: 100 });
      io.out(options.json ? json(toJson(SearchAgentsResponseSchema, found)) : foundTable(found.agents));
    });
  });
}

function foundTable(found: readonly FoundAgent[]): string {
  if (found.length === 0) return "No agent fits.\n";
  const rows = found.map(({ agent, capabilityIds, score }) => [
    agent?.agentId ?? "",
    agent?.card?.name ?? "",
    capabilityIds.slice(0, NAMED_CAPABILITIES).join(",") + (capabilityIds.length > NAMED_CAPABILITIES ? ",…" : ""),
    score > 0 ? score.toFixed(1) : "",
    agent?.standing ? agent.standing.trust.toFixed(2) : "",
  ]);
  return table(["ID", "NAME", "CAPABILITIES", "SCORE", "TRUST"], rows);
}

const gather = (text: string, before: string[]): string[] => [...before, text];

function gatherLabel(text: string, before: string[]): string[] {
  if (text.indexOf("=") < 1) throw new InvalidArgumentError("It is key=value.");
  return [...before, text];
}
