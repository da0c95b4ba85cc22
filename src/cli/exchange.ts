/** `signalbox exchange`: messages to the router in one envelope, tied together by a correlation id. */
import { fromJson, type JsonValue, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { type Command, InvalidArgumentError } from "commander";
import { TaskSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type ExchangeMessage,
  ExchangeMessageSchema,
  ListExchangesResponseSchema,
} from "../../gen/signalbox/v1/message_pb.ts";
import { answerText, recordTable } from "./exchange-text.ts";
import { json } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, readGivenFile, type ServerOptions, withServer } from "./server-call.ts";

interface ExchangeFlags extends ServerOptions {
  correlation?: string;
  timeout?: number;
}

type Envelope = MessageInitShape<typeof ExchangeMessageSchema>;

export function addExchangeCommands(program: Command, cli: Cli): void {
  const { io } = cli;
  const exchange = program
    .command("exchange")
    .description("ask the router in messages that belong together: discover, negotiate, delegate, verify");

  /**
   * A subcommand that sends one message and shows its answer. An ERROR, or a result that is not the recorded one, makes the
   * exit code 1.
   */
  const asking = (command: Command) =>
    withServer(
      command
        .option("--correlation <id>", "the exchange that the message belongs to (default: a new one)")
        .option("--timeout <seconds>", "how long it may take (default: 30)", parseSeconds),
    );
  const ask = (flags: ExchangeFlags, payload: Envelope["payload"]) =>
    callServer(cli, flags, async ({ messages }) => {
      const { correlation = "", timeout = 0 } = flags;
      const message = {
        correlationId: correlation,
        timeoutMs: BigInt(Math.round(timeout * 1000)),
        payload,
      } as Envelope;
      const answer = await messages.exchange({ message });
      show(answer, flags);
    });
  function show(answer: ExchangeMessage, { json: asJson, correlation }: ExchangeFlags): void {
    const failed = answer.payload.case === "error";
    if (failed || isOtherResult(answer)) cli.exitCode = 1;
    if (asJson) io.out(json(toJson(ExchangeMessageSchema, answer)));
    else if (failed) io.err(answerText(answer));
    else io.out(answerText(answer));
    if (!asJson && correlation === undefined) io.err(`Exchange ${answer.correlationId}\n`);
  }

  const discover = exchange
    .command("discover [text...]")
    .description("find agents and what they can do")
    .option("--tag <tag>", "only with a capability that has this tag; may be given more than once", again, [])
    .option("--label <key=value>", "the same for a label", again, [])
    .option("--capability <id>", "only those that offer this capability");
  asking(discover).action(
    (words: string[], flags: ExchangeFlags & { tag: string[]; label: string[]; capability?: string }) => {
      const { tag: tags, label: labels, capability: capabilityId = "" } = flags;
      return ask(flags, { case: "discover", value: { text: words.join(" "), tags, labels, capabilityId } });
    },
  );

  asking(exchange.command("intent <text...>").description("rank the capabilities that a text fits")).action(
    (words: string[], flags: ExchangeFlags) => ask(flags, { case: "intent", value: { text: words.join(" ") } }),
  );

  const negotiate = exchange
    .command("negotiate <capability>")
    .description("ask agents what they take for a capability, and select the best offer")
    .option("--agent <id>", "only this agent")
    .option("--strategy <name>", "what selects, such as lowest-cost (default: weighted-score)")
    .option("--max-cost <amount>", "select no offer that costs more, such as 0.25")
    .option("--max-latency <ms>", "select no offer that takes longer, in milliseconds", parseCount)
    .option("--currency <code>", "the currency of the workspace, in which agents are to quote");
  asking(negotiate).action((capabilityId: string, flags: ExchangeFlags & NegotiateFlags) => {
    const { agent: agentId = "", strategy = "", maxCost = "", maxLatency = 0, currency = "" } = flags;
    const maxLatencyMs = BigInt(maxLatency);
    return ask(flags, {
      case: "negotiate",
      value: { capabilityId, agentId, strategy, maxCost, maxLatencyMs, currency },
    });
  });

  const delegate = exchange
    .command("delegate <text...>")
    .description("have something done, by whoever gave a quote or has a capability")
    .option("--quote <id>", "the quote of a negotiation")
    .option("--capability <id>", "the capability that is asked for")
    .option("--no-wait", "return as soon as the task is accepted");
  asking(delegate).action(
    (words: string[], flags: ExchangeFlags & { quote?: string; capability?: string; wait: boolean }) => {
      const { quote: quoteId = "", capability: capabilityId = "", wait } = flags;
      const input = { capabilityId, text: words.join(" ") };
      const value = { quoteId, returnImmediately: !wait, work: { case: "input" as const, value: input } };
      return ask(flags, { case: "delegate", value });
    },
  );

  asking(
    exchange.command("explain <task>").description("say why a task went to its agent, and what happened to it"),
  ).action((taskId: string, flags: ExchangeFlags) =>
    ask(flags, { case: "explain", value: { taskId, pageSize: 1000 } }),
  );

  const verify = exchange
    .command("verify <task>")
    .description("compare a result with the record; without one, print the digest of the record")
    .option("--digest <hex>", "the digest of the result: SHA-256 over the canonical JSON of its artifacts")
    .option("-f, --file <file>", "the task as JSON, as printed by: signalbox task get ID --json");
  asking(verify).action((taskId: string, flags: ExchangeFlags & { digest?: string; file?: string }) => {
    const { digest = "", file } = flags;
    const artifacts = file === undefined ? [] : artifactsIn(verify, file);
    return ask(flags, { case: "verify", value: { taskId, digest, artifacts } });
  });

  const list = exchange
    .command("list [correlation]")
    .description("list the messages of an exchange, the oldest first; without an id, those of all, the latest first")
    .option("--limit <number>", "how many at most", parseCount, 50);
  withServer(list).action((correlationId = "", flags: ServerOptions & { limit: number }) =>
    callServer(cli, flags, async ({ messages }) => {
      const found = [];
      let pageToken = "";
      do {
        const pageSize = Math.min(50, flags.limit - found.length);
        const page = await messages.listExchanges({ correlationId, pageSize, pageToken });
        found.push(...page.messages);
        pageToken = page.nextPageToken;
      } while (pageToken !== "" && found.length < flags.limit);
      if (flags.json) {
        const all = {
          $typeName: "signalbox.v1.ListExchangesResponse" as const,
          messages: found,
          nextPageToken: pageToken,
        };
        return io.out(json(toJson(ListExchangesResponseSchema, all)));
      }
      io.out(recordTable(found));
      if (pageToken !== "") io.err("There are more: give a higher --limit.\n");
    }),
  );
}

/** Whether a verdict says that what was given is not what is recorded. */
const isOtherResult = ({ payload }: ExchangeMessage): boolean =>
  payload.case === "result" && payload.value.result.case === "verify" && payload.value.result.value.matches === false;

interface NegotiateFlags {
  agent?: string;
  strategy?: string;
  maxCost?: string;
  maxLatency?: number;
  currency?: string;
}

function artifactsIn(command: Command, path: string) {
  try {
    const read = JSON.parse(readGivenFile(command, path).toString()) as { task?: JsonValue };
    return fromJson(TaskSchema, read.task ?? (read as JsonValue), { ignoreUnknownFields: true }).artifacts;
  } catch (error) {
    return command.error(`error: ${path} holds no task: ${(error as Error).message}`);
  }
}

const again = (value: string, values: string[]): string[] => [...values, value];

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 600))
    throw new InvalidArgumentError("It takes seconds, such as 30 or 0.5; 600 at most.");
  return seconds;
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError("It is 1 or more.");
  return count;
}
