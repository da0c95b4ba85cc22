/** What the commands that call a server share: their options, their client, and what is said when a call fails. */
import { readFileSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Command } from "commander";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { type CredentialFlags, clientCredentials, isSentInTheClear } from "../config/client-credentials.ts";
import { clientTls, type TlsFlags } from "../config/client-tls.ts";
import { serverUrl } from "../config/load.ts";
import { createSignalboxClient, type SignalboxClient } from "../sdk/client.ts";
import { age, printable, utcMinute } from "./printable.ts";
import type { Cli } from "./run.ts";

export interface ServerOptions extends CredentialFlags, TlsFlags {
  server?: string;
  json?: boolean;
}

/** Adds the options that every command with a server has. */
export function withServer(command: Command): Command {
  return command
    .option(
      "--server <url>",
      "address of the server's HTTP listener (SIGNALBOX_SERVER; default: http://127.0.0.1:8080)",
    )
    .option("--api-key <key>", "a key that is sent with each call (better: SIGNALBOX_API_KEY)")
    .option("--sign-with <key>", "a key that signs each call and is never sent (better: SIGNALBOX_SIGNING_KEY)")
    .option("--token <token>", "a token of an issuer that the server trusts (better: SIGNALBOX_TOKEN)")
    .option("--workspace <id>", "the workspace to work in, for members of several (SIGNALBOX_WORKSPACE)")
    .option("--ca <file>", "authorities that the server's certificate may be of, PEM (SIGNALBOX_CA)")
    .option("--cert <file>", "certificate to show to the server, PEM (SIGNALBOX_CERT)")
    .option("--cert-key <file>", "private key of --cert, PEM (SIGNALBOX_CERT_KEY)")
    .option("--json", "print JSON for programs");
}

/** Calls the server; a call that fails is explained on `io.err` and makes the exit code 1. */
export async function callServer(
  cli: Cli,
  options: ServerOptions,
  call: (client: SignalboxClient) => Promise<void>,
): Promise<void> {
  const { io } = cli;
  const baseUrl = serverUrl(options.server, io.env);
  const credentials = clientCredentials(options, io.env);
  const tls = clientTls(options, io.env, io.cwd);
  if (isSentInTheClear(credentials, baseUrl)) io.err(IN_THE_CLEAR);
  try {
    await call(createSignalboxClient({ baseUrl, signal: io.stop, ...credentials, ...(tls && { tls }) }));
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    cli.exitCode = 1;
    if (io.stop.aborted) io.err("Stopped. What the server has begun goes on.\n");
    else if (options.json) io.err(`${JSON.stringify({ error: facts(error, baseUrl) })}\n`);
    else io.err(sentences(facts(error, baseUrl)));
  }
}

const IN_THE_CLEAR =
  "warning: The credential goes to this server in the clear: whoever is on the way can read and use it. Use https://, or a key that signs.\n";

/** What an error says, for programs. */
interface ErrorFacts {
  code: string;
  message: string;
  reason?: string;
  violations?: { field: string; description: string }[];
  retryAfterMs?: number;
}

function facts(error: ConnectError, baseUrl: string): ErrorFacts {
  const code = Code[error.code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  if (codeIn(error, /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH)$/) !== undefined) {
    const message = `Nothing answers at ${baseUrl}. Start a server with "signalbox serve", or name another with --server or SIGNALBOX_SERVER.`;
    return { code, message, reason: "SERVER_UNREACHABLE" };
  }
  const untrusted = codeIn(error, /CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE|ERR_TLS/);
  if (untrusted !== undefined) {
    const message = `The certificate of ${baseUrl} is none that is trusted here (${untrusted}). Name the authority that issued it with --ca FILE or SIGNALBOX_CA, and the server by the name that it is for.`;
    return { code: "UNAVAILABLE", message, reason: "SERVER_NOT_TRUSTED" };
  }
  if (baseUrl.startsWith("http:") && codeIn(error, /^(ECONNRESET|EPIPE)$/) !== undefined) {
    const message = `The server at ${baseUrl} hung up. If it speaks TLS, write https:// instead.`;
    return { code: "UNAVAILABLE", message, reason: "SERVER_HUNG_UP" };
  }
  const [info] = error.findDetails(ErrorInfoSchema);
  const [request] = error.findDetails(BadRequestSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const delay = retry?.retryDelay;
  return {
    code,
    message: error.rawMessage || `The server at ${baseUrl} gave no reason.`,
    ...(info && { reason: info.reason }),
    ...(request && { violations: request.fieldViolations.map(({ field, description }) => ({ field, description })) }),
    ...(delay && { retryAfterMs: Number(delay.seconds) * 1000 + Math.ceil(delay.nanos / 1e6) }),
  };
}

/** The same for people. */
function sentences({ code, message, reason, violations = [], retryAfterMs }: ErrorFacts): string {
  const lines = [`error: ${message}`, `  ${reason === undefined || reason === code ? code : `${reason} (${code})`}`];
  for (const { field, description } of violations) {
    // The message of an error often is the first of its violations.
    if (!message.includes(description)) lines.push(`  ${field}: ${description}`);
  }
  if (reason === "UNAUTHENTICATED") lines.push(`  ${HOW_TO_SAY_WHO}`);
  if (retryAfterMs !== undefined) lines.push(`  Try again in ${pause(retryAfterMs, new Date())}.`);
  return `${lines.map((line) => printable(line.replace(/\bsignalbox-after-sequence\b/gi, "--after"))).join("\n")}\n`;
}

/** A short pause in seconds, and a long one as `13h`, with its end. */
function pause(ms: number, now: Date): string {
  if (ms < LONG_PAUSE_MS) return `${Math.ceil(ms / 1000)} s`;
  const end = new Date(now.getTime() + ms);
  return `${age(now, end)}, at ${utcMinute(end)}`;
}

const HOW_TO_SAY_WHO =
  "Say who you are with SIGNALBOX_API_KEY, with SIGNALBOX_SIGNING_KEY for a key that signs, or with SIGNALBOX_TOKEN.";

/** Whoever waits so long looks at a clock. */
const LONG_PAUSE_MS = 120_000;

/** The first code of the system, in an error and its causes, that fits. */
function codeIn(error: unknown, codes: RegExp): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    // Those of Connect are numbers.
    if (typeof code === "string" && codes.test(code)) return code;
  }
  return undefined;
}

/** The bytes of a file that the user named. A file that cannot be read is wrong use of the command. */
export function readGivenFile(command: Command, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return command.error(`error: ${path} ${code === "ENOENT" ? "does not exist" : `cannot be read (${code})`}.`);
  }
}
