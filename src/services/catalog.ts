/**
 * The AI Catalog of what a caller may see (https://github.com/Agent-Card/ai-card, specVersion 1.0, conformance level 2): the router,
 * its agents and its capabilities, each with the address of its card.
 */
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { CardSettings, PublicAddress } from "../domain/card.ts";
import { capabilityCard } from "../domain/card.ts";
import type { VisibleAgents } from "./visible-agents.ts";

export const CATALOG_TYPE = "application/ai-catalog+json";
const CARD_TYPE = "application/a2a-agent-card+json";
export const CATALOG_PATH = "/.well-known/ai-catalog.json";
const CARD_PATH = "/.well-known/agent-card.json";

/** Entries of one document. What is more stands in catalogs of their own, of which the first tells. */
export const MOST_ENTRIES = 1_000;
const MOST_TAGS = 32;

/** An entry, by the names of its specification. */
export interface CatalogEntry {
  /** A URI that is its own. */
  identifier: string;
  displayName: string;
  mediaType: string;
  url: string;
  description?: string;
  version?: string;
  tags?: string[];
  updatedAt?: string;
}

export interface Catalog {
  specVersion: "1.0";
  host: { displayName: string; identifier: string; documentationUrl?: string };
  entries: CatalogEntry[];
}

/** `part` is counted from 1; undefined is the catalog that tells of all. Undefined where there is no such part. */
export function catalogOf(
  settings: CardSettings,
  { url, grpc }: PublicAddress,
  visible: VisibleAgents,
  part: number | undefined,
): Catalog | undefined {
  const entry = (
    path: string,
    about: Pick<AgentCard, "name" | "description" | "version" | "skills">,
    updatedAt?: Date,
  ): CatalogEntry => {
    const tags = [...new Set(about.skills.flatMap((skill) => skill.tags))].slice(0, MOST_TAGS);
    return {
      identifier: url + path,
      displayName: about.name,
      mediaType: CARD_TYPE,
      url: url + path + CARD_PATH,
      ...(about.description !== "" && { description: about.description }),
      ...(about.version !== "" && { version: about.version }),
      ...(tags.length > 0 && { tags }),
      ...(updatedAt && { updatedAt: updatedAt.toISOString() }),
    };
  };
  const agents = visible.agents().map(({ agent, skills }) => () => {
    const { name, description, version } = agent.card;
    return entry(`/agents/${agent.agentId}`, { name, description, version, skills: [...skills] }, agent.updatedAt);
  });
  const capabilities = [...visible.capabilities()].map(([capabilityId, offers]) => () => {
    const card = capabilityCard(settings, { url, grpc }, { capabilityId, offers });
    return entry(`/capabilities/${capabilityId}`, card, latest(offers.map(({ agent }) => agent.updatedAt)));
  });
  const all = [...agents, ...capabilities];
  const host = {
    displayName: settings.provider?.organization ?? settings.name,
    identifier: settings.provider?.url ?? url,
    ...(settings.documentationUrl !== undefined && { documentationUrl: settings.documentationUrl }),
  };
  const whole = (entries: CatalogEntry[]): Catalog => ({ specVersion: "1.0", host, entries });
  const parts = Math.ceil(all.length / MOST_ENTRIES);
  if (part !== undefined) {
    if (part < 1 || part > parts) return undefined;
    return whole(all.slice((part - 1) * MOST_ENTRIES, part * MOST_ENTRIES).map((make) => make()));
  }
  const { name, description, version } = settings;
  const own = entry("", { name, description, version, skills: [] });
  if (all.length < MOST_ENTRIES) return whole([own, ...all.map((make) => make())]);
  // As many parts as a document can tell of: that is a million of entries.
  const nested = Array.from({ length: Math.min(parts, MOST_ENTRIES - 1) }, (_, i): CatalogEntry => {
    const at = `${url}${CATALOG_PATH}?part=${i + 1}`;
    return { identifier: at, displayName: `${name}, part ${i + 1}`, mediaType: CATALOG_TYPE, url: at };
  });
  return whole([own, ...nested]);
}

const latest = (times: readonly Date[]): Date => new Date(Math.max(...times.map((time) => time.getTime())));
