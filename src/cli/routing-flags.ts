/** The flags of commands that send a message, or ask where it would go. */
import type { Command } from "commander";
import type { SendOptions } from "../sdk/client.ts";

export interface RoutingFlags {
  agent?: string;
  capability?: string;
  label: string[];
  strategy?: string;
  maxCost?: string;
  priority?: string;
  deadline?: string;
  routeMode?: string;
}

const again = (value: string, values: string[]): string[] => [...values, value];

/** Adds the flags. */
export function withRouting(command: Command): Command {
  return command
    .option("--agent <id>", "the agent to send it to (default: the server chooses)")
    .option("--capability <id>", "the capability to ask for: the server chooses among the agents that have it")
    .option("--label <key=value>", "a label that the capability must have; may be repeated", again, [])
    .option("--strategy <name>", "what chooses among several agents, such as least-load")
    .option("--max-cost <amount>", "what the task may cost, such as 0.25")
    .option("--priority <name>", "background, low, normal, high or critical: which waiting task is begun first")
    .option("--deadline <seconds>", "the task fails when it has not ended so many seconds after it was accepted")
    .option("--route-mode <mode>", "auto, local or remote: whether the agent must be in the server's process");
}

/** What the flags ask for; ends the command where they contradict each other. What they hold the server judges. */
export function sendOptionsOf(command: Command, flags: RoutingFlags): SendOptions {
  const { agent, capability, strategy, maxCost, priority, deadline, routeMode } = flags;
  if (agent !== undefined && capability !== undefined)
    command.error("error: give --agent or --capability, not both: an agent that is named takes the message.");
  const labels = flags.label.map((label) => {
    const [key = "", ...rest] = label.split("=");
    if (key === "" || rest.length === 0) command.error(`error: --label ${label}: write it as key=value.`);
    return [key, rest.join("=")] as const;
  });
  const deadlineMs = deadline === undefined ? undefined : Math.round(Number(deadline) * 1000);
  if (deadlineMs !== undefined && !(deadlineMs > 0))
    command.error("error: --deadline takes seconds, such as 30 or 0.5.");
  const routing = {
    ...(labels.length > 0 && { labels: Object.fromEntries(labels) }),
    ...(strategy !== undefined && { strategy }),
    ...(maxCost !== undefined && { maxCost }),
    ...(priority !== undefined && { priority: priority.toUpperCase() }),
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(routeMode !== undefined && { routeMode: routeMode.toUpperCase() }),
  };
  return {
    ...(agent !== undefined && { agent }),
    ...(capability !== undefined && { capability }),
    ...(Object.keys(routing).length > 0 && { routing }),
  };
}

/** Signals by their names, as `--weights` has them. */
const SIGNALS = ["load", "latency", "cost", "errors", "reputation"] as const;

/** The weights that a flag names, as load=1,cost=2. Those that it does not name are 0. What they are the server judges. */
export function weightsFlag(command: Command, given: string): Partial<Record<(typeof SIGNALS)[number], number>> {
  const wrong = (entry: string) =>
    command.error(`error: --weights ${entry}: write it as load=1,cost=2, of ${SIGNALS.join(", ")}.`);
  const named = given.split(",").map((entry): [string, number] => {
    const [signal = "", weight = "", ...rest] = entry.trim().split("=");
    const isWeight = weight.trim() !== "" && !Number.isNaN(Number(weight)) && rest.length === 0;
    return isWeight && SIGNALS.includes(signal as never) ? [signal, Number(weight)] : wrong(entry);
  });
  return Object.fromEntries(named);
}

/** The same for people. */
export const weightsText = (weights: Readonly<Record<(typeof SIGNALS)[number], number>>): string =>
  SIGNALS.map((signal) => `${signal}=${weights[signal]}`).join(",");
