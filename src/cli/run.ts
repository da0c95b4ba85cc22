/** Understands the command line and runs the command that it names. */
import { Command, CommanderError } from "commander";
import { ConfigError } from "../config/config-error.ts";
import { PACKAGE_VERSION } from "../config/package.ts";
import { SignalboxError } from "../domain/errors.ts";
import { addAgentsCommands } from "./agents.ts";
import { addApplyCommand } from "./apply.ts";
import { addApprovalsCommands } from "./approvals.ts";
import { addAuditCommands } from "./audit.ts";
import { addBudgetsCommands } from "./budgets.ts";
import { addCacheCommands } from "./cache.ts";
import { addCapabilitiesCommands } from "./capabilities.ts";
import { addExchangeCommands } from "./exchange.ts";
import { addGrantsCommands } from "./grants.ts";
import type { ExitCode, Io } from "./io.ts";
import { addKeysCommands, addWhoAmICommand } from "./keys.ts";
import { addMembersCommands } from "./members.ts";
import { addPolicyCommands } from "./policy.ts";
import { addReputationCommands } from "./reputation.ts";
import { addAlertsCommands, addRolloutCommands } from "./rollout.ts";
import { addRouteCommands } from "./route.ts";
import { addSendCommand } from "./send.ts";
import { addServeCommand } from "./serve.ts";
import { addSignCommand } from "./sign.ts";
import { addTaskCommands } from "./task.ts";
import { addQuotasCommands, addWorkspacesCommands } from "./workspaces.ts";

/** What the commands share. */
export interface Cli {
  readonly io: Io;
  /** Set by a command that failed without an error, as one whose task failed. */
  exitCode: ExitCode;
}

/** Runs `signalbox` with these arguments. Never throws: whatever goes wrong is told on `io.err`. */
export async function run(args: readonly string[], io: Io): Promise<ExitCode> {
  const cli: Cli = { io, exitCode: 0 };
  const program = createProgram("signalbox", io)
    .description("Routes Agent2Agent (A2A) tasks to the agents behind it.")
    .version(PACKAGE_VERSION);
  addServeCommand(program, cli);
  addAgentsCommands(program, cli);
  addCapabilitiesCommands(program, cli);
  addApplyCommand(program, cli);
  addSendCommand(program, cli);
  addTaskCommands(program, cli);
  addRouteCommands(program, cli);
  addRolloutCommands(program, cli);
  addAlertsCommands(program, cli);
  addExchangeCommands(program, cli);
  addCacheCommands(program, cli);
  addReputationCommands(program, cli);
  addApprovalsCommands(program, cli);
  addPolicyCommands(program, cli);
  addBudgetsCommands(program, cli);
  addAuditCommands(program, cli);
  addKeysCommands(program, cli);
  addWhoAmICommand(program, cli);
  addSignCommand(program, cli);
  addWorkspacesCommands(program, cli);
  addQuotasCommands(program, cli);
  addMembersCommands(program, cli);
  addGrantsCommands(program, cli);
  return runProgram(program, args, cli);
}

/** A command that writes to `io` and throws CommanderError instead of ending the process; its subcommands too. */
export function createProgram(name: string, io: Io): Command {
  return new Command(name)
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err })
    .showHelpAfterError("Add --help to see how it is used.");
}

/** Parses the arguments and runs what they name; errors become messages and exit codes. */
export async function runProgram(program: Command, args: readonly string[], cli: Cli): Promise<ExitCode> {
  try {
    await program.parseAsync(args, { from: "user" });
    return cli.exitCode;
  } catch (error) {
    // Commander has told the user already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof ConfigError) {
      cli.io.err(`${error.message}\n`);
      return 2;
    }
    // A sentence for the operator is enough; what nobody foresaw needs its stack.
    const foreseen = error instanceof SignalboxError;
    cli.io.err(`error: ${foreseen ? error.message : ((error as Error).stack ?? String(error))}\n`);
    return 1;
  }
}
