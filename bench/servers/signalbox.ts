/**
 * The whole server, with one agent in its process. Arguments: the name of the agent, the PostgreSQL database to use, none for
 * PGlite, and settings as `audit.enabled=false`. Whatever it is asked, it lets a waiting agent go on.
 */
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { startTestApp } from "../../test/e2e/running-app.ts";
import { clerk, reader, scribe } from "./agents.ts";
import { announce } from "./announce.ts";

const [agent = "", databaseUrl, ...settings] = process.argv.slice(2);
const waiting = reader(8);
const handlers: Readonly<Record<string, AgentHandler>> = { scribe, clerk, reader: waiting.handler };
const handler = handlers[agent];
if (!handler) throw new Error(`there is no agent "${agent}"; there are ${Object.keys(handlers).join(", ")}`);
const app = await startTestApp({
  agents: { [agent]: handler },
  flags: {
    ...(databaseUrl !== undefined && { "database.url": databaseUrl }),
    ...Object.fromEntries(settings.map((setting) => setting.split("=", 2))),
  },
});
announce(
  { authority: app.grpcAddress, httpUrl: app.httpUrl },
  { stop: () => app.stop(), answer: async () => waiting.goOn() },
);
