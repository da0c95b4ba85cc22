/** `signalbox agents`: the agents behind the server. */
import { fromJsonString, toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Command, InvalidArgumentError } from "commander";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Agent, AgentSchema, type RegisterAgentRequest } from "../../gen/signalbox/v1/registry_pb.ts";
import { signatureWord } from "../domain/card-signature.ts";
import { addAgentCredentialCommands } from "./agent-credential.ts";
import { circuitWord, healthFacts, healthWord, showHealth, timeText } from "./agent-health.ts";
import { addAgentSearchCommand } from "./agent-search.ts";
import { age, facts, json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, readGivenFile, type ServerOptions, withServer } from "./server-call.ts";

interface RegisterFlags extends ServerOptions {
  id?: string;
  safeToRepeat?: true;
  heartbeat?: string;
  maxConcurrency?: number;
}

interface HeartbeatFlags extends ServerOptions {
  ttl?: string;
}

interface UpdateFlags extends ServerOptions {
  safeToRepeat?: boolean;
  maxConcurrency?: number;
}

const MAX_CONCURRENCY = "tasks that it works on at once; 0: no limit";
const SAFE_TO_REPEAT = "its work is idempotent: a task may be sent to it again if its fate is unknown";

export function addAgentsCommands(program: Command, cli: Cli): void {
  const agents = program.command("agents").description("register, show, find, change and remove agents");
  const { io } = cli;

  const show = (agent: Agent, options: ServerOptions) =>
    io.out(options.json ? json(toJson(AgentSchema, agent)) : agentText(agent));

  const register = agents
    .command("register <source>")
    .description("register an agent by its URL, the URL of its card (ending in .json), or a file with its card")
    .option("--id <id>", "id to register it under (default: made from the card's name)")
    .option("--safe-to-repeat", SAFE_TO_REPEAT)
    .option("--heartbeat <seconds>", "demand a heartbeat within so long, and again after each")
    .option("--max-concurrency <tasks>", MAX_CONCURRENCY, wholeNumber);
  withServer(register).action((given: string, options: RegisterFlags) => {
    const source = sourceOf(register, given);
    const heartbeatTtlMs = millisecondsOf(register, "--heartbeat", options.heartbeat);
    return callServer(cli, options, async ({ registry }) => {
      const { id: agentId = "", safeToRepeat = false, maxConcurrency = 0 } = options;
      const request = { agentId, source, safeToRepeat, maxConcurrency, heartbeatTtlMs };
      show(await registry.registerAgent(request), options);
    });
  });

  const update = agents
    .command("update <id>")
    .description("change what was said of an agent when it was registered")
    .option("--safe-to-repeat", SAFE_TO_REPEAT)
    .option("--no-safe-to-repeat", "take that back")
    .option("--max-concurrency <tasks>", MAX_CONCURRENCY, wholeNumber);
  withServer(update).action((agentId: string, options: UpdateFlags) => {
    const { safeToRepeat, maxConcurrency } = options;
    const paths = [
      ...(safeToRepeat === undefined ? [] : ["safe_to_repeat"]),
      ...(maxConcurrency === undefined ? [] : ["max_concurrency"]),
    ];
    if (paths.length === 0) {
      return update.error("error: nothing to change: give --safe-to-repeat, --no-safe-to-repeat or --max-concurrency.");
    }
    return callServer(cli, options, async ({ registry }) => {
      const agent = { agentId, safeToRepeat: safeToRepeat ?? false, maxConcurrency: maxConcurrency ?? 0 };
      show(await registry.updateAgent({ agent, updateMask: { paths } }), options);
    });
  });

  withServer(agents.command("list").description("list the agents")).action((options: ServerOptions) =>
    callServer(cli, options, async ({ registry }) => {
      const found: Agent[] = [];
      let pageToken = "";
      do {
        const page = await registry.listAgents({ pageSize: 100, pageToken });
        found.push(...page.agents);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      io.out(options.json ? json({ agents: found.map((agent) => toJson(AgentSchema, agent)) }) : agentTable(found));
    }),
  );

  addAgentSearchCommand(agents, cli);
  addAgentCredentialCommands(agents, cli);

  withServer(
    agents.command("show <id>").aliases(["get", "describe"]).description("show one agent, and how it does"),
  ).action((agentId: string, options: ServerOptions) =>
    callServer(cli, options, async ({ registry }) => show(await registry.getAgent({ agentId }), options)),
  );

  withServer(agents.command("check <id>").description("check now whether an agent can be called")).action(
    (agentId: string, options: ServerOptions) =>
      callServer(cli, options, async ({ registry }) => {
        const health = await registry.checkAgentHealth({ agentId });
        showHealth(cli, health, options);
        if (!health.healthy || health.failureCount > 0) cli.exitCode = 1;
      }),
  );

  const heartbeat = agents
    .command("heartbeat <id>")
    .description("say that an agent lives; without one more in time it gets no new tasks")
    .option(
      "--ttl <seconds>",
      "for how long, 1 to 86400 (default: as said last); 0 ends it: none is owed from then on",
    );
  withServer(heartbeat).action((agentId: string, options: HeartbeatFlags) => {
    const { ttl } = options;
    const said = ttl !== undefined && { ttlMs: ttl === "0" ? 0 : millisecondsOf(heartbeat, "--ttl", ttl) };
    return callServer(cli, options, async ({ registry }) =>
      showHealth(cli, await registry.heartbeat({ agentId, ...said }), options),
    );
  });

  withServer(agents.command("refresh <id>").description("fetch an agent's card again from where it came")).action(
    (agentId: string, options: ServerOptions) =>
      callServer(cli, options, async ({ registry }) => show(await registry.refreshAgentCard({ agentId }), options)),
  );

  withServer(agents.command("remove <id>").description("remove an agent; its running tasks go on")).action(
    (agentId: string, options: ServerOptions) =>
      callServer(cli, options, async ({ registry }) => {
        await registry.deregisterAgent({ agentId });
        io.out(options.json ? json({}) : `Agent ${agentId} is removed.\n`);
      }),
  );

  withServer(agents.command("default <id>").description("make an agent the one for messages that name none")).action(
    (agentId: string, options: ServerOptions) =>
      callServer(cli, options, async ({ registry }) => show(await registry.setDefaultAgent({ agentId }), options)),
  );
}

/** Seconds as milliseconds; 0 for none. */
function millisecondsOf(command: Command, flag: string, seconds: string | undefined): number {
  if (seconds === undefined) return 0;
  if (/^\d{1,5}(\.\d{1,3})?$/.test(seconds) && Number(seconds) > 0) return Math.round(Number(seconds) * 1000);
  return command.error(`error: ${flag} takes seconds, as 30 or 0.5; "${seconds}" is none.`);
}

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number > 1_000_000) throw new InvalidArgumentError("It is 0 to 1000000.");
  return number;
}

function sourceOf(command: Command, given: string): RegisterAgentRequest["source"] {
  if (/^https?:\/\//i.test(given)) {
    const isCard = URL.parse(given)?.pathname.endsWith(".json");
    return { case: isCard ? "cardUrl" : "baseUrl", value: given };
  }
  return { case: "card", value: readCard(command, given) };
}

function readCard(command: Command, path: string): AgentCard {
  const text = readGivenFile(command, path).toString();
  try {
    return fromJsonString(AgentCardSchema, text, { ignoreUnknownFields: true });
  } catch (error) {
    return command.error(`error: ${path} holds no agent card: ${(error as Error).message}`);
  }
}

function agentTable(agents: readonly Agent[]): string {
  if (agents.length === 0) return 'No agents yet. Register one with "signalbox agents register <url>".\n';
  const now = new Date();
  const rows = agents.map((agent) => [
    agent.agentId,
    agent.card?.name ?? "",
    agent.isDefault ? "yes" : "",
    agent.safeToRepeat ? "yes" : "",
    healthWord(agent.health),
    circuitWord(agent.health),
    agent.interface?.protocolBinding ?? "",
    agent.interface?.url ?? "",
    agent.updateTime ? age(timestampDate(agent.updateTime), now) : "",
  ]);
  return table(["ID", "NAME", "DEFAULT", "REPEATABLE", "HEALTHY", "CIRCUIT", "BINDING", "URL", "UPDATED"], rows);
}

/** What the card's signatures are worth, and by which key. */
function signatureText({ cardSignature }: Agent): string {
  if (!cardSignature) return "none";
  const { keyId, keyThumbprint, algorithm, problem } = cardSignature;
  const key = keyId || keyThumbprint;
  const by = key === "" ? "" : `, key ${key}${algorithm && ` (${algorithm})`}`;
  return `${signatureWord(cardSignature)}${by}${problem && `: ${problem}`}`;
}

function agentText(agent: Agent): string {
  const { card } = agent;
  const summary = facts([
    ["Agent", agent.agentId],
    ["Name", card?.name],
    ["About", card?.description],
    ["Version", card?.version],
    ["Default", agent.isDefault ? "yes" : "no"],
    ["Safe to repeat", agent.safeToRepeat ? "yes" : "no"],
    ["At once", agent.maxConcurrency > 0 ? String(agent.maxConcurrency) : "no limit"],
    ["Interface", agent.interface && `${agent.interface.protocolBinding} ${agent.interface.url}`],
    ["Card", agent.cardUrl],
    ["Card signature", signatureText(agent)],
    ["Protocol", agent.protocolVersion],
    ["Card fetched", timeText(agent.cardFetchTime)],
    ["Streaming", card?.capabilities?.streaming ? "yes" : "no"],
    ...healthFacts(agent.health),
  ]);
  const skills = card?.skills.map(({ id, description }) => [id, description]) ?? [];
  return skills.length === 0 ? summary : `${summary}\n${table(["SKILL", "DESCRIPTION"], skills)}`;
}
