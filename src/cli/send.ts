/** `signalbox send`: one message to an agent. */
import { basename, extname } from "node:path";
import { create, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type Message, PartSchema, SendMessageResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type SendOptions, type SignalboxClient, userMessage } from "../sdk/client.ts";
import { json } from "./printable.ts";
import { type RoutingFlags, sendOptionsOf, withRouting } from "./routing-flags.ts";
import type { Cli } from "./run.ts";
import { callServer, readGivenFile, type ServerOptions, withServer } from "./server-call.ts";
import { showUpdates } from "./task.ts";
import { answerHint, isFailure, messageText, taskText } from "./task-text.ts";

interface SendFlags extends ServerOptions, RoutingFlags {
  task?: string;
  context?: string;
  wait: boolean;
  stream?: boolean;
  file: string[];
  idempotencyKey?: string;
  store: boolean;
}

export function addSendCommand(program: Command, cli: Cli): void {
  const command = program
    .command("send <text...>")
    .description("send a message and show the answer")
    .option("--task <id>", "the task to go on with")
    .option("--context <id>", "the context to go on in")
    .option("--no-wait", "show the new task at once instead of waiting for its end")
    .option("--stream", "show the updates as they come")
    .option("--idempotency-key <key>", "send it once: the same message under the same key shows the first one's task")
    .option("--no-store", "neither take an earlier task's result nor keep this one's")
    .option("--file <path>", "attach a file; may be repeated", (path, paths: string[]) => [...paths, path], []);
  withServer(withRouting(command)).action((words: string[], flags: SendFlags) => {
    if (flags.stream && !flags.wait) command.error("error: --stream waits for the updates; leave out --no-wait.");
    const message = messageOf(command, words.join(" "), flags);
    const { idempotencyKey } = flags;
    const options = {
      ...sendOptionsOf(command, flags),
      ...(idempotencyKey !== undefined && { idempotencyKey }),
      ...(!flags.store && { noStore: true }),
    };
    return callServer(cli, flags, async (client) => {
      if (flags.stream) await showUpdates(cli, client.stream(message, options), flags);
      else await sendAndShow(cli, client, message, { ...options, wait: flags.wait }, flags);
    });
  });
}

async function sendAndShow(
  cli: Cli,
  client: SignalboxClient,
  message: Message,
  options: SendOptions & { wait: boolean },
  flags: ServerOptions,
): Promise<void> {
  const { io } = cli;
  const answer = await client.send(message, options);
  const isTask = answer.$typeName === "lf.a2a.v1.Task";
  if (flags.json) {
    const payload = isTask ? { case: "task" as const, value: answer } : { case: "message" as const, value: answer };
    io.out(json(toJson(SendMessageResponseSchema, create(SendMessageResponseSchema, { payload }))));
  } else {
    io.out(isTask ? taskText(answer) : messageText(answer));
  }
  if (!isTask) return;
  const state = answer.status?.state ?? TaskState.UNSPECIFIED;
  if (!flags.json) io.err(answerHint(answer.id, state, answer.status?.message));
  if (isFailure(state)) cli.exitCode = 1;
}

function messageOf(command: Command, text: string, { task, context, file, idempotencyKey }: SendFlags): Message {
  const message = userMessage(text, {
    ...(task !== undefined && { taskId: task }),
    ...(context !== undefined && { contextId: context }),
    // Sent again, it must be the same message.
    ...(idempotencyKey !== undefined && { messageId: idempotencyKey }),
  });
  for (const path of file) {
    const mediaType = MEDIA_TYPES[extname(path).toLowerCase()] ?? "application/octet-stream";
    const content = { case: "raw" as const, value: new Uint8Array(readGivenFile(command, path)) };
    message.parts.push(create(PartSchema, { content, mediaType, filename: basename(path) }));
  }
  return message;
}

/** What agents are most often given. */
const MEDIA_TYPES: Readonly<Record<string, string>> = {
  ".csv": "text/csv",
  ".gif": "image/gif",
  ".html": "text/html",
  ".jpeg": "image/jpeg",
  ".jpg": "image/jpeg",
  ".json": "application/json",
  ".md": "text/markdown",
  ".mp3": "audio/mpeg",
  ".mp4": "video/mp4",
  ".pdf": "application/pdf",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".txt": "text/plain",
  ".wav": "audio/wav",
  ".webp": "image/webp",
  ".xml": "application/xml",
  ".yaml": "application/yaml",
  ".yml": "application/yaml",
  ".zip": "application/zip",
};
