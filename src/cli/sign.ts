/** `signalbox sign`: the headers that sign a request, for curl and other programs. Calls nobody. */
import type { Command } from "commander";
import { signingKeyOf } from "../config/client-credentials.ts";
import { frameMessage, signRequest } from "../sdk/signing.ts";
import { bytesOf } from "./given-text.ts";
import { json } from "./printable.ts";
import type { Cli } from "./run.ts";

interface SignFlags {
  signWith?: string;
  body?: string;
  grpc?: true;
  json?: true;
}

export function addSignCommand(program: Command, cli: Cli): void {
  const { io } = cli;
  const command = program
    .command("sign <method> <url>")
    .description("print the headers that sign a request: curl -H @<(signalbox sign GET URL) URL")
    .option("--sign-with <key>", "the key, of a kind that signs (better: SIGNALBOX_SIGNING_KEY)")
    .option("--body <file>", "the content, byte for byte as it will be sent; - reads standard input")
    .option("--grpc", "the content is one message of gRPC: sign it as it is framed")
    .option("--json", "print JSON for programs");
  command.action((method: string, url: string, flags: SignFlags) => {
    const key = signingKeyOf(flags.signWith, io.env);
    if (key === undefined) return command.error("error: Give a key that signs: --sign-with, or SIGNALBOX_SIGNING_KEY.");
    if (!/^https?:\/\//.test(url) || !URL.canParse(url))
      command.error("error: The address must be whole, with http:// or https://.");
    if (!/^[A-Za-z]{1,32}$/.test(method)) command.error("error: The method must be one of HTTP, such as GET or POST.");
    const content = flags.body === undefined ? undefined : bytesOf(command, cli, flags.body);
    const body = flags.grpc ? frameMessage(content ?? new Uint8Array()) : content;
    const headers = signRequest({ method: method.toUpperCase(), url, body, key });
    io.out(
      flags.json
        ? json(headers)
        : Object.entries(headers)
            .map(([name, value]) => `${name}: ${value}\n`)
            .join(""),
    );
  });
}
