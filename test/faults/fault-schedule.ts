/** What goes wrong during a run, one thing after another, by chance and yet the same with the same seed. */
import { setTimeout } from "node:timers/promises";
import type { FaultAgents } from "./agents.ts";
import { type Cluster, LEASE_MS, type ReplicaSlot } from "./cluster.ts";
import type { Trouble } from "./evidence.ts";

/** How long something is felt after it is over, in milliseconds: heartbeats, reconnects and rescues take their time. */
const AFTERMATH_MS = 4 * LEASE_MS;
/** Longest wait for the replicas to notice what was done to one of them, in milliseconds. */
const NOTICE_MS = 20_000;

/** Longest time until what a fault broke is whole again, in milliseconds. */
const MENDING_MS = 60_000;

export const REPLICA_FAULTS = ["kill", "pause", "restart", "cut", "cutAll", "crash", "hush"] as const;
export const AGENT_FAULTS = ["killAgent", "forgetAgent", "hangAgent"] as const;
export type FaultName = (typeof REPLICA_FAULTS)[number] | (typeof AGENT_FAULTS)[number];

export interface Faults {
  readonly troubles: readonly Trouble[];
  readonly counts: ReadonlyMap<FaultName, number>;
  /** Does one of them, and resolves when what it broke is whole again. */
  cause(name: FaultName): Promise<void>;
  /** An agent died by itself, or by a fault. */
  agentDied(agent: string): void;
}

export function createFaults(
  cluster: Cluster,
  agents: () => FaultAgents,
  random: () => number,
  signal: AbortSignal,
): Faults {
  const troubles: Trouble[] = [];
  const counts = new Map<FaultName, number>();
  const oneOf = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  const between = (least: number, most: number) => least + random() * (most - least);

  /** Notes who is in trouble while something goes on. */
  async function during(who: readonly string[], work: () => Promise<void>): Promise<void> {
    const noted = who.map((name) => ({ who: name, from: Date.now(), until: Number.POSITIVE_INFINITY }));
    troubles.push(...noted);
    try {
      await work();
    } finally {
      for (const trouble of noted) trouble.until = Date.now() + AFTERMATH_MS;
    }
  }

  const namesOf = (slots: readonly ReplicaSlot[]) =>
    slots.flatMap((slot) => slot.replicaIds().map((id) => `replica:${id}`));
  const lasting = (ms: number) => setTimeout(ms, undefined, { signal }).catch(() => {});

  /** Stopped until others have declared it dead, so that it must find out. */
  async function pause(slot: ReplicaSlot): Promise<void> {
    const id = slot.replicaIds().at(-1);
    const noticed = AbortSignal.any([signal, AbortSignal.timeout(NOTICE_MS)]);
    slot.signal("SIGSTOP");
    try {
      await cluster.untilLine(({ dead }) => Array.isArray(dead) && dead.includes(id), noticed);
      await lasting(between(0, 500));
    } finally {
      slot.signal("SIGCONT");
    }
    await cluster.untilLine(({ msg, replica }) => msg.startsWith("declared dead") && replica === id, noticed);
  }

  async function cutOff(slots: readonly ReplicaSlot[], ms: number): Promise<void> {
    for (const { wire } of slots) wire.sever();
    await lasting(ms);
    for (const { wire } of slots) wire.mend();
  }

  const perform: Record<FaultName, () => Promise<void>> = {
    async kill() {
      const slot = oneOf(cluster.slots);
      await during(namesOf([slot]), () => slot.replace());
    },
    async pause() {
      const slot = oneOf(cluster.slots);
      await during(namesOf([slot]), () => pause(slot));
    },
    async cut() {
      const slot = oneOf(cluster.slots);
      await during(namesOf([slot]), () => cutOff([slot], between(200, 3 * LEASE_MS)));
    },
    async hush() {
      const slot = oneOf(cluster.slots);
      await during(namesOf([slot]), async () => {
        slot.wire.hush();
        await lasting(between(200, 2 * LEASE_MS));
        slot.wire.cut();
      });
    },
    cutAll: () => during(["database"], () => cutOff(cluster.slots, between(200, 1.5 * LEASE_MS))),
    restart: () =>
      during(["database"], async () => {
        await cluster.postgres.stop("fast");
        await cluster.postgres.start();
      }),
    crash: () =>
      during(["database"], async () => {
        await cluster.postgres.stop("kill");
        await cluster.postgres.start();
      }),
    killAgent: () => oneOf(agents().processes).kill({ memory: true }),
    forgetAgent: () => oneOf(agents().processes).kill({ memory: false }),
    async hangAgent() {
      const agent = oneOf(agents().processes);
      await during([`agent:${agent.name}`], async () => {
        agent.hang();
        await lasting(between(500, 5_000));
        agent.wake();
      });
    },
  };

  return {
    troubles,
    counts,
    async cause(name) {
      counts.set(name, (counts.get(name) ?? 0) + 1);
      const late = Promise.withResolvers<never>();
      const timer = globalThis.setTimeout(() => late.reject(new Error(`"${name}" could not be mended`)), MENDING_MS);
      await Promise.race([perform[name](), late.promise]).finally(() => clearTimeout(timer));
    },
    agentDied(agent) {
      troubles.push({ who: `agent:${agent}`, from: Date.now(), until: Date.now() + AFTERMATH_MS });
    },
  };
}
