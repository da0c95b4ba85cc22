/** `signalbox agents credential`: what the router proves itself with to an agent. Secrets come from files, or standard input. */
import { type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { type AgentCredential, AgentCredentialSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { KIND_NAMES } from "../domain/identity/agent-credential.ts";
import { textOf } from "./given-text.ts";
import { facts, json } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface SetFlags extends ServerOptions {
  bearerFile?: string;
  apiKeyFile?: string;
  header?: string;
  hmacFile?: string;
  keyId?: string;
  oauth2?: string;
  oidc?: string;
  clientId?: string;
  clientSecretFile?: string;
  scope?: string[];
  resource?: string;
  mtls?: true;
  mtlsCert?: string;
  mtlsKey?: string;
  mtlsCa?: string;
}

type Kind = NonNullable<MessageInitShape<typeof AgentCredentialSchema>["kind"]>;

/** The flags of each kind beside the one that names it; those that must be there first. */
const KINDS = {
  bearerFile: { needs: [], may: [] },
  apiKeyFile: { needs: [], may: ["header"] },
  hmacFile: { needs: ["keyId"], may: [] },
  oauth2: { needs: ["clientId", "clientSecretFile"], may: ["scope", "resource"] },
  oidc: { needs: ["clientId", "clientSecretFile"], may: ["scope", "resource"] },
  mtls: { needs: ["mtlsCert", "mtlsKey"], may: ["mtlsCa"] },
} as const satisfies Record<string, { needs: readonly (keyof SetFlags)[]; may: readonly (keyof SetFlags)[] }>;

const PARTS = [
  "header",
  "keyId",
  "clientId",
  "clientSecretFile",
  "scope",
  "resource",
  "mtlsCert",
  "mtlsKey",
  "mtlsCa",
] as const;

export function addAgentCredentialCommands(agents: Command, cli: Cli): void {
  const credential = agents.command("credential").description("what the router proves itself with to an agent");
  const { io } = cli;
  const show = (shown: AgentCredential, options: ServerOptions) =>
    io.out(options.json ? json(toJson(AgentCredentialSchema, shown)) : credentialText(shown));

  const set = credential
    .command("set <agent>")
    .description("set an agent's credential; secrets come from files, or - for standard input")
    .option("--bearer-file <file>", "a token, sent as Authorization: Bearer")
    .option("--api-key-file <file>", "a key, sent in a header")
    .option("--header <name>", "the header of the key (default: X-API-Key)")
    .option("--hmac-file <file>", "a secret in base64, with which each request is signed (RFC 9421)")
    .option("--key-id <id>", "the name of that secret at the agent")
    .option("--oauth2 <token-url>", "tokens of the client credentials grant, from this token endpoint")
    .option("--oidc <issuer>", "the same, from the token endpoint of an issuer")
    .option("--client-id <id>", "the router's id there")
    .option("--client-secret-file <file>", "its secret there")
    .option("--scope <scope...>", "scopes to ask for")
    .option("--resource <uri>", "whom the tokens are for (RFC 8707)")
    .option("--mtls", "a certificate that is shown in TLS")
    .option("--mtls-cert <file>", "PEM of the certificate and its chain")
    .option("--mtls-key <file>", "PEM of its private key")
    .option(
      "--mtls-ca <file>",
      "PEM of who signs the agent's own certificate (default: the authorities of the system)",
    );
  withServer(set).action((agentId: string, options: SetFlags) => {
    const kind = kindOf(set, cli, options);
    return callServer(cli, options, async ({ registry }) =>
      show(await registry.setAgentCredential({ agentId, credential: { kind } }), options),
    );
  });

  withServer(credential.command("get <agent>").alias("show").description("show all but its secret")).action(
    (agentId: string, options: ServerOptions) =>
      callServer(cli, options, async ({ registry }) => show(await registry.getAgentCredential({ agentId }), options)),
  );

  withServer(credential.command("delete <agent>").alias("remove").description("call the agent without")).action(
    (agentId: string, options: ServerOptions) =>
      callServer(cli, options, async ({ registry }) => {
        await registry.deleteAgentCredential({ agentId });
        io.out(options.json ? json({}) : `Agent ${agentId} is called without a credential.\n`);
      }),
  );
}

const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

function kindOf(command: Command, cli: Cli, options: SetFlags): Kind {
  const names = Object.keys(KINDS) as (keyof typeof KINDS)[];
  const [name, other] = names.filter((kind) => options[kind] !== undefined);
  if (name === undefined || other !== undefined) {
    return command.error(`error: give one of ${names.map(flagOf).join(", ")}.`);
  }
  const { needs, may } = KINDS[name];
  const missing = needs.find((part) => options[part] === undefined);
  if (missing !== undefined) return command.error(`error: ${flagOf(name)} needs ${flagOf(missing)}.`);
  const allowed: readonly string[] = [...needs, ...may];
  const foreign = PARTS.find((part) => options[part] !== undefined && !allowed.includes(part));
  if (foreign !== undefined) return command.error(`error: ${flagOf(foreign)} says nothing with ${flagOf(name)}.`);

  const read = (path: string) => textOf(command, cli, path);
  // Editors end a file with a line feed, which is not of the secret.
  const secret = (path: string) => read(path).replace(/\r?\n$/, "");
  const client = () => ({
    clientId: options.clientId!,
    clientSecret: secret(options.clientSecretFile!),
    scopes: options.scope ?? [],
    resource: options.resource ?? "",
  });
  switch (name) {
    case "bearerFile":
      return { case: "bearer", value: { token: secret(options.bearerFile!) } };
    case "apiKeyFile":
      return { case: "apiKey", value: { header: options.header ?? "", key: secret(options.apiKeyFile!) } };
    case "hmacFile":
      return { case: "hmac", value: { keyId: options.keyId!, secret: secret(options.hmacFile!) } };
    case "oauth2":
      return { case: "oauth2", value: { tokenUrl: options.oauth2!, ...client() } };
    case "oidc":
      return { case: "oidc", value: { issuer: options.oidc!, ...client() } };
    case "mtls": {
      const [certificateChain, privateKey] = [read(options.mtlsCert!), read(options.mtlsKey!)];
      const certificateAuthorities = options.mtlsCa === undefined ? "" : read(options.mtlsCa);
      return { case: "mutualTls", value: { certificateChain, privateKey, certificateAuthorities } };
    }
  }
}

function credentialText({ agentId, kind, updateTime, updatedBy }: AgentCredential): string {
  const { value } = kind;
  return facts([
    ["Agent", agentId],
    ["Kind", kind.case === undefined ? "" : KIND_NAMES[kind.case]],
    ["Header", kind.case === "apiKey" ? kind.value.header : ""],
    ["Key id", kind.case === "hmac" ? kind.value.keyId : ""],
    ["Token endpoint", kind.case === "oauth2" ? kind.value.tokenUrl : ""],
    ["Issuer", kind.case === "oidc" ? kind.value.issuer : ""],
    ["Client", value && "clientId" in value ? value.clientId : ""],
    ["Scopes", value && "scopes" in value ? value.scopes.join(" ") : ""],
    ["Resource", value && "resource" in value ? value.resource : ""],
    ["Set", updateTime ? timestampDate(updateTime).toISOString() : ""],
    ["By", updatedBy],
  ]);
}
