/** `signalbox apply`: brings agents, capabilities and rollouts to what a file says. Applied again, it changes nothing. */
import type { Command } from "commander";
import { ConfigError, type ConfigProblem } from "../config/config-error.ts";
import type { SignalboxClient } from "../sdk/client.ts";
import { agentItem } from "./apply-agents.ts";
import { capabilityItem } from "./apply-capabilities.ts";
import { readDescribed } from "./apply-file.ts";
import { type ApplyItem, found, type Outcome } from "./apply-item.ts";
import { rolloutItem } from "./apply-rollouts.ts";
import { nameOf, textOf } from "./given-text.ts";
import { json } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ApplyFlags extends ServerOptions {
  file: string[];
  dryRun?: boolean;
}

/** The things of all files, those first that others need. */
interface Items {
  agents: (ApplyItem & { isDefault: boolean })[];
  capabilities: (ApplyItem & { agentId: string })[];
  rollouts: ApplyItem[];
}

export function addApplyCommand(program: Command, cli: Cli): void {
  const { io } = cli;
  const apply = program
    .command("apply")
    .description("bring agents, capabilities and rollouts to what a file says; nothing is removed")
    .requiredOption("-f, --file <file>", "YAML or JSON; - reads standard input; may be repeated", gather)
    .option("--dry-run", "only say what there is to do");
  withServer(apply).action((flags: ApplyFlags) => {
    const problems: ConfigProblem[] = [];
    const described = flags.file.flatMap((file) => readDescribed(textOf(apply, cli, file), nameOf(file), problems));
    const make = <T>(
      kind: string,
      item: (each: (typeof described)[number], problems: ConfigProblem[]) => T | undefined,
    ) => described.filter((each) => each.kind === kind).flatMap((each) => item(each, problems) ?? []);
    const items: Items = {
      agents: make("Agent", agentItem),
      capabilities: make("Capability", capabilityItem),
      rollouts: make("Rollout", rolloutItem),
    };
    findRepeated(items, problems);
    if (problems.length > 0) throw new ApplyError(problems);
    if (described.length === 0) return apply.error("error: there is nothing to apply.");
    return callServer(cli, flags, async (client) => {
      await findMissingAgents(client, items);
      const results: { name: string; result: Outcome }[] = [];
      try {
        for (const item of [...items.agents, ...items.capabilities, ...items.rollouts]) {
          const result = await item.apply(client, flags.dryRun === true).catch((error: unknown) => {
            io.err(`${item.where}: ${item.name} could not be applied.\n`);
            throw error;
          });
          results.push({ name: item.name, result });
          if (!flags.json) io.out(`${item.name} ${result}${flags.dryRun ? " (dry run)" : ""}\n`);
        }
      } finally {
        if (flags.json) io.out(json({ items: results, dryRun: flags.dryRun === true }));
      }
    });
  });
}

const gather = (file: string, files: string[] = []): string[] => [...files, file];

function findRepeated({ agents, capabilities, rollouts }: Items, problems: ConfigProblem[]): void {
  const first = new Map<string, string>();
  for (const { name, where } of [...agents, ...capabilities, ...rollouts]) {
    const before = first.get(name);
    if (before === undefined) first.set(name, where);
    else problems.push({ where, message: `${name} is described twice; the other is at ${before}.` });
  }
  const defaults = agents.filter(({ isDefault }) => isDefault);
  for (const { where } of defaults.slice(1)) {
    problems.push({
      where,
      message: `default: only one agent can be the default; ${defaults[0]!.name} is it already.`,
    });
  }
}

/** Capabilities of agents that neither the files nor the server have. */
async function findMissingAgents({ registry }: SignalboxClient, { agents, capabilities }: Items): Promise<void> {
  const problems: ConfigProblem[] = [];
  const described = new Set(agents.map(({ name }) => name));
  const known = new Map<string, boolean>();
  for (const { agentId, where } of capabilities) {
    if (described.has(`agent/${agentId}`)) continue;
    if (!known.has(agentId)) known.set(agentId, (await found(registry.getAgent({ agentId }))) !== undefined);
    if (known.get(agentId)) continue;
    problems.push({
      where,
      message: `There is no agent ${agentId}, here or at the server. Describe it too, or register it.`,
    });
  }
  if (problems.length > 0) throw new ApplyError(problems);
}

/** What is wrong with the files, all of it. Nothing was applied. */
class ApplyError extends ConfigError {
  constructor(problems: readonly ConfigProblem[]) {
    super(problems);
    const inOrder = problems.toSorted((a, b) => a.where.localeCompare(b.where, "en", { numeric: true }));
    const lines = inOrder.map(({ where, message }) => `  ${where}: ${message}`);
    this.message = `Nothing was applied:\n${lines.join("\n")}`;
    this.name = "ApplyError";
  }
}
