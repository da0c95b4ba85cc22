/**
 * The whole server, with one agent in its process. Arguments: the name of the agent, the PostgreSQL database to use, none for
 * PGlite, and settings as `audit.enabled=false`. Asked with an Order, the agent `chorus` follows it; whatever else it is asked, it lets the waiting
 * agent `reader` go on.
 */
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { inProcessCard, startTestApp } from "../../test/e2e/running-app.ts";
import { chorus, clerk, type Order, reader, scribe } from "./agents.ts";
import { announce } from "./announce.ts";

const [agent = "", databaseUrl, ...settings] = process.argv.slice(2);
const waiting = reader(8);
const singing = chorus();
const handlers: Readonly<Record<string, AgentHandler>> = {
  scribe,
  clerk,
  reader: waiting.handler,
  chorus: singing.handler,
};
const handler = handlers[agent];
if (!handler) throw new Error(`there is no agent "${agent}"; there are ${Object.keys(handlers).join(", ")}`);
const app = await startTestApp({
  places: { [agent]: handler },
  flags: {
    ...(databaseUrl !== undefined && { "database.url": databaseUrl }),
    ...Object.fromEntries(settings.map((setting) => setting.split("=", 2))),
  },
});
// Of several on one database, the first one registers it.
if (!(await fetch(`${app.httpUrl}/v1/agents/${agent}`)).ok) await app.register(agent, { card: inProcessCard(agent) });
announce(
  { authority: app.grpcAddress, httpUrl: app.httpUrl },
  {
    stop: () => app.stop(),
    answer: async (question: Order | string) => (typeof question === "object" ? singing.say(question) : waiting.goOn()),
  },
);
