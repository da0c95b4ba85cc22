/** The composition root: the one place that builds everything, in the order in which things depend on each other. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import type { Alert } from "../gen/signalbox/v1/rollout_pb.ts";
import { checksHost, listenerSettings, openCertificates, warnOfPlainSecrets } from "./app/listeners.ts";
import { createLog } from "./app/log.ts";
import { operatorGate } from "./app/operators.ts";
import { readOwnCard } from "./app/own-card.ts";
import { bindRpcs } from "./app/rpcs.ts";
import { createServingState } from "./app/serving-state.ts";
import type { WorkerSeat } from "./app/workers/link.ts";
import { PACKAGE_FOLDER, PACKAGE_VERSION } from "./config/package.ts";
import type { Config } from "./config/settings.ts";
import type { PublicAddress } from "./domain/card.ts";
import { HOME_WORKSPACE } from "./domain/identity/principal.ts";
import { errorRateAt } from "./domain/routing/agent-signals.ts";
import { stateName } from "./domain/task-state.ts";
import { readCardKeys } from "./engine/card-keys.ts";
import { type Closing, closeAll } from "./engine/closing.ts";
import type { EngineOptions } from "./engine/options.ts";
import { type Engine, startEngine } from "./engine.ts";
import type { AgentHandler } from "./outbound/in-process-channel.ts";
import type { Alerts } from "./services/alerts.ts";
import { createCardSigner } from "./services/card-signer.ts";
import { createCards } from "./services/cards.ts";
import { draining } from "./services/dispatch-errors.ts";
import { anonymousPrincipal } from "./services/identity/authenticator.ts";
import type { Scheme } from "./services/identity/credentials.ts";
import type { AgentGauge } from "./services/routing/agent-gauges.ts";
import { type Runtime, systemRuntime } from "./services/runtime.ts";
import { openGrpcListener } from "./transport/grpc/grpc-listener.ts";
import { openHttpListener } from "./transport/http-listener.ts";
import { createHttpRoutes } from "./transport/http-routes.ts";
import { type AgentsHealth, deepHealth } from "./transport/ops/deep-health.ts";
import { createMetrics, type Metrics, type MetricsPage } from "./transport/ops/metrics.ts";

export interface AppOptions {
  /** Default: JSON lines on standard error at `log.level`. */
  log?: Logger;
  /** Agents that are functions in this process, by name. */
  inProcess?: ReadonlyMap<string, AgentHandler>;
  /** Ways to say who one is beside those that are configured, asked before them. */
  schemes?: readonly Scheme[];
  /** Opens the database, in place of what the store does by itself: for those who look into it beside the server. */
  openDatabase?: EngineOptions["openDatabase"];
  /** What makes this server one of several processes on the same listeners. */
  worker?: WorkerSeat;
  /** Gives up the start, while the database is waited for. */
  signal?: AbortSignal;
}

export interface RunningApp {
  /** Address of the HTTP listener, with the base path. */
  readonly httpUrl: string;
  /** `host:port` of the gRPC listener. */
  readonly grpcAddress: string;
  /** The token of the first admin's key, where this start made it. It is nowhere else: show it. */
  readonly firstKey: string | undefined;
  /**
   * Turns NOT_SERVING, lets calls end for as long as `drain.ms`, ends what is left with UNAVAILABLE (DRAINING), and closes
   * the database. Tasks go on where they are taken up next.
   */
  drain(): Promise<void>;
}

/** Starts the server. Throws SignalboxError with a sentence for the operator when it cannot. */
export async function startApp(config: Config, options: AppOptions = {}): Promise<RunningApp> {
  const log = options.log ?? createLog(config.log.level, options.worker?.id);
  const runtime = systemRuntime();
  const startedAt = runtime.now();
  const ownCard = await readOwnCard(config);

  const state = createServingState();
  const closing: Closing = [];
  const metrics = createMetrics({
    version: PACKAGE_VERSION,
    backend: config.database.url === undefined ? "pglite" : "postgres",
    runningTasks: () => engine.dispatcher.running,
    ready: () => state.serving,
    replicas: () => engine.replicas,
    bus: () => engine.bus,
    waitingTasks: () => engine.waitingTasks(),
    waitingAtAgents: () => engine.waitingAtAgents,
    allotted: () => engine.allotted(),
    outboxLag: () => engine.outbox.lag(),
    retentionBehind: () => engine.retention.behind(),
    alerts: () => alertsOfAll(engine.alerts),
    policyFilesAreValid: () => engine.policyFilesAreValid(),
    agents: () => engine.agentGauges(),
    leastTrusted: (most) => engine.reputation.leastTrusted(most),
    budgets: () => engine.budgetUsage.gauges(),
    audit: () => engine.auditGauge(),
    certificateEnd: () => certificates?.expiresAt,
  });
  // First, because what is wrong with its files is nothing that a database must change for.
  const certificates = await openCertificates(config, log, metrics.tlsReload);
  closing.push(() => certificates?.stop());
  const engine = await startEngine({
    config,
    log,
    runtime,
    inProcess: options.inProcess,
    schemes: options.schemes,
    openDatabase: options.openDatabase,
    signal: options.signal,
    onDelivery: metrics.pushDelivery,
    onTaken: metrics.tasksTaken,
    onAttemptFailed: metrics.attemptFailed,
    onCacheLookup: metrics.cacheLookup,
    onHedge: metrics.hedge,
    onMirror: metrics.mirror,
    onReputation: metrics.reputation,
    onApproval: metrics.approval,
    onCheck: metrics.healthCheck,
    onPolicyReload: metrics.policyReload,
    onPolicyVerdict: metrics.policyVerdict,
    onBudgetRefused: metrics.budgetRefused,
    onBudgetOverrun: metrics.budgetOverrun,
    onLimited: metrics.limited,
    onRemoved: metrics.retentionRemoved,
  }).catch((error: unknown) => {
    certificates?.stop();
    throw error;
  });
  const { db, hub, directory, router } = engine;
  /** How long agents have to name the tasks that were just brought to them, before those are let go. */
  let patienceMs = 0;
  closing.push(() => engine.stop(patienceMs));
  try {
    const address: PublicAddress = { url: "", grpc: "" };
    const signer = await createCardSigner({
      ...readCardKeys(config, log),
      jku: () => `${address.url}/.well-known/jwks.json`,
    });
    const cards = createCards({
      directory,
      policy: engine.policy,
      router,
      signer,
      settings: ownCard,
      address: () => address,
      startedAt,
      isGuarded: engine.isGuarded,
      shownToNobody: config.card.publicSkills
        ? { principal: anonymousPrincipal("viewer"), workspaceId: HOME_WORKSPACE }
        : undefined,
    });

    // transport
    hub.onCommit(({ workspaceId, agentId, updates }) => {
      for (const { body } of updates) {
        if (body.payload.case !== "statusUpdate" || !body.payload.value.status) continue;
        metrics.transition(workspaceId, agentId, stateName(body.payload.value.status.state));
      }
    });
    const giveUp = new AbortController();
    const rpcs = bindRpcs(engine, { cards, state, runtime, log, onCall: metrics.call, drain: giveUp.signal });
    const onError = (error: unknown) => log.error({ err: error }, "a request failed in an unforeseen way");
    const maxBytes = config.limits.messageBytes;
    const listeners = listenerSettings(config, certificates, options.worker !== undefined);
    warnOfPlainSecrets(config, log);
    const http = await openHttpListener({
      ...listeners.http,
      handler: createHttpRoutes({
        rpcs,
        cards,
        metrics: pageOf(metrics, options.worker),
        authenticator: engine.authenticator,
        health: () =>
          deepHealth({
            serving: () => state.serving,
            database: () => db.ping(),
            grpc: () => ({ host: config.host, port: grpc.port }),
            lease: () => engine.lease(),
            bus: () => engine.bus,
            outboxLag: () => engine.outbox.lag(),
            agents: () => agentHealth(engine, runtime),
            audit: () => engine.auditGauge(),
          }),
        openapi: readOpenapi,
        isReady: async () => {
          if (!state.serving) return false;
          return db.ping().then(
            () => true,
            () => false,
          );
        },
        admitOperator: operatorGate(config, engine),
        checksHost: checksHost(config),
        basePath: config.http.basePath,
        host: config.host,
        publicUrl: config.public.url,
        publicGrpc: config.public.grpc,
        corsOrigins: config.http.corsOrigins,
        compress: config.http.compress,
        maxBytes,
        cardMaxAgeS: config.card.maxAgeSeconds,
        onError,
      }),
    });
    closing.push(() => http.close());
    const grpc = await openGrpcListener({ ...listeners.grpc, rpcs, maxBytes, onError });
    closing.push(() => grpc.close());

    const host = config.host.includes(":") ? `[${config.host}]` : config.host;
    const scheme = certificates ? "https" : "http";
    const httpUrl = `${scheme}://${host}:${http.port}${config.http.basePath}`;
    const grpcAddress = `${host}:${grpc.port}`;
    address.url = config.public.url === undefined ? httpUrl : trimSlash(config.public.url) + config.http.basePath;
    // A bare address of a private host is read as one without TLS.
    address.grpc = config.public.grpc ?? (certificates ? `https://${grpcAddress}` : grpcAddress);

    // Last, so that what is made is shown.
    const firstKey = await engine.makeFirstKey();
    options.worker?.measuredBy(metrics.snapshot);
    state.start();
    log.info({ http: httpUrl, grpc: grpcAddress, database: db.backend, version: PACKAGE_VERSION }, "serving");

    return {
      httpUrl,
      grpcAddress,
      firstKey,
      async drain() {
        log.info({ drainMs: config.drain.ms }, "draining");
        const endsAt = performance.now() + config.drain.ms;
        state.stop();
        const ended = Promise.all([http.drain(), grpc.drain()]);
        const inTime = await settlesWithin(ended, config.drain.ms);
        if (!inTime) {
          giveUp.abort(draining());
          // Time for the last answers to leave.
          await settlesWithin(ended, LAST_WORDS_MS);
        }
        patienceMs = Math.max(LAST_WORDS_MS, endsAt - performance.now());
        await closeAll(closing);
        log.info("stopped");
        log.flush();
      },
    };
  } catch (error) {
    await closeAll(closing);
    throw error;
  }
}

/** How many agents all workspaces have, and which of them are not well, as far as this process knows them. */
async function agentHealth(
  { directory, loads, agentGauges, countAgents }: Engine,
  { elapsedMs }: Runtime,
): Promise<AgentsHealth> {
  const known = agentGauges();
  const workspaceIds = [...new Set(known.map(({ workspaceId }) => workspaceId))];
  const held = await Promise.all(workspaceIds.map((id) => directory.agents(id)));
  // One that has gone is nobody's trouble.
  const gauges = known.filter(({ workspaceId, agentId }) => held[workspaceIds.indexOf(workspaceId)]?.byId.has(agentId));
  const isFailing = ({ workspaceId, agentId }: AgentGauge) => {
    const load = loads.of(workspaceId, agentId);
    return load !== undefined && errorRateAt(load.signals, elapsedMs()) > 0.5;
  };
  return {
    registered: await countAgents(),
    unhealthy: gauges.filter(({ healthy }) => !healthy).map(nameOf),
    circuitOpen: gauges.filter(({ circuitOpen }) => circuitOpen).map(nameOf),
    failing: gauges.filter(isFailing).map(nameOf),
  };
}

/** Of an agent, with its workspace where that is not the first. */
const nameOf = ({ workspaceId, agentId }: AgentGauge): string =>
  workspaceId === HOME_WORKSPACE ? agentId : `${workspaceId}/${agentId}`;

/** The page of this process, or of all workers that it is one of. */
function pageOf({ contentType, render }: Metrics, worker: WorkerSeat | undefined): MetricsPage {
  return { contentType, render: worker ? worker.metricsPage : render };
}

/** How long the answers to what was given up may take to reach their clients. */
const LAST_WORDS_MS = 500;

async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const timer = AbortSignal.timeout(ms);
  return Promise.race([promise.then(() => true), once(timer, "abort").then(() => false)]);
}

/** Of each workspace that had tasks here. */
async function alertsOfAll(alerts: Alerts): Promise<{ workspaceId: string; alert: Alert }[]> {
  const found = alerts.workspaces().map(async (workspaceId) => {
    const own = await alerts.list(workspaceId);
    return own.map((alert) => ({ workspaceId, alert }));
  });
  return (await Promise.all(found)).flat();
}

const trimSlash = (url: string): string => url.replace(/\/+$/, "");

/** The OpenAPI document of our own routes, from the package's docs/. */
const readOpenapi = (): Promise<string> => readFile(join(PACKAGE_FOLDER, "docs", "openapi.json"), "utf8");
