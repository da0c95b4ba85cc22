/**
 * The first process of `signalbox serve --workers N`: it keeps N workers alive and serves nothing itself. Each worker is the same
 * program again, and a replica like any other. This process has the listeners' sockets, hands each new connection to the next worker,
 * and opens no database.
 */
import cluster from "node:cluster";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "../../config/settings.ts";
import { clearSocketPath } from "../../transport/socket-path.ts";
import { createMember, type End, type Member } from "./member.ts";
import type { ServingAt } from "./messages.ts";
import { createMetricsRounds } from "./metrics-round.ts";
import { LONGEST_PAUSE_MS, restartPauseMs } from "./restart-pause.ts";

export interface SupervisorOptions {
  config: Config;
  log: Logger;
  /** Drains all workers. */
  stop: AbortSignal;
  /** Told once, when the first worker serves. */
  onServing: (at: ServingAt) => void;
}

export interface Supervisor {
  /**
   * Resolves when no worker is left, with the exit code of this process: 0 after a drain in order, that of the first worker when it
   * could not start, else 1. Rejects with CANNOT_LISTEN when a Unix socket is not free.
   */
  readonly ended: Promise<number>;
  /** Puts a new worker in the place of each, one after another. Each old one drains when the new one serves. */
  replaceAll(): Promise<void>;
}

/** How long a drain may take beyond `drain.ms`, in milliseconds: the last answers, and the database. */
const LATE_MS = 15_000;
/** How long a new worker may take until it serves, in milliseconds, before its predecessor stays. */
const START_MS = 60_000;

export function superviseWorkers({ config, log, stop, onServing }: SupervisorOptions): Supervisor {
  // Round robin, not the system's own choice: connections of HTTP/2 are few and live long, so what counts is that each worker gets as
  // many of them, and the system gives most to those few workers that it woke last.
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({ serialization: "advanced" });

  const members = new Map<number, Member>();
  /** One for each worker that should serve. */
  const places: Place[] = [];
  let restarts = 0;
  const serving = () => [...members.values()].filter(({ state }) => state === "serving").length;
  const rounds = createMetricsRounds({
    workers: () =>
      new Map(
        [...members]
          .filter(([, { state }]) => state !== "starting")
          .map(([id, member]) => [id, { ask: (question) => member.tell({ kind: "measure", question }) }]),
      ),
    counts: () => {
      const count = (wanted: Member["state"]) => [...members.values()].filter(({ state }) => state === wanted).length;
      return {
        wanted: config.workers,
        starting: count("starting"),
        serving: count("serving"),
        draining: count("draining"),
        restarts,
      };
    },
  });

  function launch(): Member {
    const worker = cluster.fork();
    const member = createMember(worker, config);
    members.set(member.id, member);
    log.info({ worker: member.id, pid: worker.process.pid }, "a worker is started");
    member.onMessage((message) => {
      if (message.kind === "measured") rounds.answered(member.id, message.question, message.snapshot);
      if (message.kind === "ask-page") void sendPage(member, message.question);
    });
    void member.serving.then(() => {
      if (serving() === config.workers) log.info({ workers: config.workers }, "all workers serve");
    });
    void member.ended.then(() => {
      members.delete(member.id);
      rounds.left(member.id);
    });
    return member;
  }

  async function sendPage(member: Member, question: number): Promise<void> {
    try {
      member.tell({ kind: "page", question, page: await rounds.page() });
    } catch (error) {
      member.tell({ kind: "page", question, error: (error as Error).message });
    }
  }

  /** A place is never empty for longer than a pause, until this process is to stop. */
  async function keep(place: Place): Promise<void> {
    while (!stop.aborted) {
      const { member, since } = place;
      const end = await member.ended;
      // What was about to take its place does so.
      await place.replacing;
      if (stop.aborted) return;
      if (place.member !== member) continue;
      // Whoever has lived for longer than any pause begins anew.
      const deaths = performance.now() - since > LONGEST_PAUSE_MS ? 0 : place.deaths;
      const pauseMs = restartPauseMs(deaths, Math.random());
      const level = endedInOrder(end) ? "info" : "error";
      log[level]({ worker: member.id, ...end, pauseMs }, "a worker has ended: another one is started");
      await sleep(pauseMs, undefined, { signal: stop }).catch(() => {});
      if (stop.aborted) return;
      restarts += 1;
      Object.assign(place, { member: launch(), since: performance.now(), deaths: deaths + 1 });
    }
  }

  async function replace(place: Place): Promise<boolean> {
    const old = place.member;
    const next = launch();
    const timer = AbortSignal.any([stop, AbortSignal.timeout(START_MS)]);
    const late = new Promise<false>((resolve) => timer.addEventListener("abort", () => resolve(false)));
    const serves = await Promise.race([next.serving.then(() => true), next.ended.then(() => false), late]);
    if (!serves) {
      if (!stop.aborted) next.kill();
      return false;
    }
    Object.assign(place, { member: next, since: performance.now(), deaths: 0 });
    restarts += 1;
    old.drain();
    await old.ended;
    return true;
  }

  let rolling: Promise<void> | undefined;
  async function roll(): Promise<void> {
    log.info("workers are replaced one after another");
    for (const place of places) {
      if (stop.aborted) return;
      const replacing = replace(place);
      place.replacing = replacing.then(() => {});
      if (!(await replacing)) {
        if (!stop.aborted) log.error("a new worker did not come to serve: the others stay");
        return;
      }
      place.replacing = undefined;
    }
    log.info("all workers were replaced");
  }

  async function drainAll(): Promise<number> {
    const ends = Promise.all([...members.values()].map(({ ended }) => ended));
    for (const member of members.values()) member.drain();
    const timer = setTimeout(() => {
      log.error({ workers: [...members.keys()] }, "workers did not end in time and are killed");
      for (const member of members.values()) member.kill();
    }, config.drain.ms + LATE_MS);
    const all = await ends;
    clearTimeout(timer);
    return all.every(endedInOrder) ? 0 : 1;
  }

  /** It has said why, unless it could not. */
  function failedToStart(end: End): number {
    if (stop.aborted || endedInOrder(end)) return 0;
    if (end.signal !== null) log.error(end, "the first worker was killed before it served");
    return end.code || 1;
  }

  async function run(): Promise<number> {
    await clearSockets(config);
    const stopped = new Promise<"stopped">((resolve) => {
      if (stop.aborted) resolve("stopped");
      stop.addEventListener("abort", () => resolve("stopped"));
    });
    // Alone: it changes the tables and makes the keys where there are none, and shows whether the configuration works.
    const first = launch();
    const begun = await Promise.race([first.serving, first.ended, stopped]);
    if (begun === "stopped") return drainAll();
    if (!("httpUrl" in begun)) return failedToStart(begun);
    onServing(begun);
    for (let i = 0; i < config.workers; i++) {
      places.push({ member: i === 0 ? first : launch(), since: performance.now(), deaths: 0, replacing: undefined });
    }
    for (const place of places) void keep(place);
    await stopped;
    return drainAll();
  }

  // Whoever asks a second time does not wait: this process ends, and the workers with it.
  const killAll = () => {
    if (stop.aborted) for (const member of members.values()) member.kill();
  };
  process.on("exit", killAll);
  return {
    ended: run().finally(() => process.off("exit", killAll)),
    replaceAll() {
      if (places.length === 0 || stop.aborted) return Promise.resolve();
      rolling ??= roll().finally(() => {
        rolling = undefined;
      });
      return rolling;
    },
  };
}

interface Place {
  member: Member;
  /** When its worker was started, on the clock of this process. */
  since: number;
  /** Deaths in a row. */
  deaths: number;
  /** Settles when its worker has been replaced, or has not. */
  replacing: Promise<void> | undefined;
}

/** Also one that was told by the terminal, before it could hear. */
const endedInOrder = ({ code, signal }: End): boolean => code === 0 || signal === "SIGTERM" || signal === "SIGINT";

async function clearSockets({ http, grpc }: Config): Promise<void> {
  if (http.socket !== undefined) await clearSocketPath(http.socket, "http");
  if (grpc.socket !== undefined) await clearSocketPath(grpc.socket, "grpc");
}
