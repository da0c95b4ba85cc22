/**
 * One connection to NATS, from its making to its end, with the stream of hints of one installation: a JetStream in memory, with
 * one subject, that keeps a minute. It is never mended: whatever is the matter with it ends it, and the bus makes another.
 */
import {
  DeliverPolicy,
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from "@nats-io/jetstream";
import { connect, type NatsConnection, nanos } from "@nats-io/transport-node";
import { awaitGreeting, type NatsAddress } from "./nats-address.ts";

/** How long connecting may take, and each answer after that, in milliseconds. */
const CONNECT_MS = 3_000;
const ANSWER_MS = 2_000;
/** The rhythm in which the server says that there is nothing; after two that are missing the connection is given up. */
const HEARTBEAT_MS = 2_000;
/** How long the stream keeps hints, in milliseconds, and how many bytes of them: what is older goes first. */
const KEPT_MS = 60_000;
const KEPT_BYTES = 16 * 1024 * 1024;
/** The server forgets the consumer of a replica that has gone for so long, in milliseconds. */
const FORGOTTEN_MS = 30_000;
/** What a hint takes at most, with what goes before it, in bytes. */
const MESSAGE_BYTES = 8_192;

/** What tells the client that hints do not come as they should. It would mend some of that by itself, but not soon. */
const TROUBLES: ReadonlySet<string> = new Set([
  "heartbeats_missed",
  "no_responders",
  "consumer_deleted",
  "consumer_not_found",
  "stream_not_found",
  "reset",
]);

/** A message of the stream: its number, and when it was stored, in milliseconds. */
export interface HeardAt {
  readonly seq: number;
  readonly at: number;
}

export interface NatsSessionOptions {
  address: NatsAddress;
  /** What the stream is called: letters, digits and hyphens. */
  stream: string;
  subject: string;
  /** The last message that was heard before; hearing goes on after it, if it is still there. */
  after: HeardAt | undefined;
  /** Told of each message, in order. May not throw. */
  onMessage(message: HeardAt, payload: string): void;
  /** Ends it, also while it is made. */
  signal: AbortSignal;
}

export interface NatsSession {
  /** Whether hearing goes on after the last message that was heard before. */
  readonly resumed: boolean;
  /** Resolves when the message is in the stream. When it rejects, the session is over. */
  publish(payload: string): Promise<void>;
  /** Resolves with why it is over. */
  readonly over: Promise<string>;
}

/** Rejects when it cannot be made, or `signal` aborts. */
export async function openNatsSession(options: NatsSessionOptions): Promise<NatsSession> {
  const { address, signal } = options;
  await awaitGreeting(address, CONNECT_MS, signal);
  const connection = await connectUnlessAborted(address, signal);
  const leave = () => void connection.close().catch(() => {});
  signal.addEventListener("abort", leave, { once: true });
  try {
    signal.throwIfAborted();
    const session = await begin(connection, options);
    const over = session.over.finally(() => {
      signal.removeEventListener("abort", leave);
      leave();
    });
    return { ...session, over };
  } catch (error) {
    signal.removeEventListener("abort", leave);
    leave();
    throw error;
  }
}

/** The client cannot be told to give up; what it still brings is closed. */
async function connectUnlessAborted(address: NatsAddress, signal: AbortSignal): Promise<NatsConnection> {
  const connecting = connect({
    ...address.options,
    name: "signalbox",
    servers: address.name,
    reconnect: false,
    timeout: CONNECT_MS,
    ignoreClusterUpdates: true,
  });
  const aborted = Promise.withResolvers<never>();
  const giveUp = () => {
    aborted.reject(new Error("it was given up"));
    void connecting.then((connection) => connection.close()).catch(() => {});
  };
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    return await Promise.race([connecting, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

async function begin(connection: NatsConnection, options: NatsSessionOptions): Promise<NatsSession> {
  const { stream, subject, after, onMessage } = options;
  const most = connection.info?.max_payload ?? 0;
  if (most < MESSAGE_BYTES)
    throw new Error(`it takes messages of ${most} bytes, and hints have up to ${MESSAGE_BYTES}`);
  const client = jetstream(connection, { timeout: ANSWER_MS });
  const manager = await jetstreamManager(connection, { timeout: ANSWER_MS, checkAPI: false });
  await makeStream(manager, stream, subject);
  const from = after && (await isThere(manager, stream, after)) ? after : undefined;

  const over = Promise.withResolvers<string>();
  const consumer = await client.consumers.get(stream, {
    ...(from ? { opt_start_seq: from.seq + 1 } : { deliver_policy: DeliverPolicy.New }),
    inactive_threshold: FORGOTTEN_MS,
  });
  const messages = await consumer.consume({
    idle_heartbeat: HEARTBEAT_MS,
    callback: (message) => onMessage({ seq: message.seq, at: msOf(message.timestampNanos) }, message.string()),
  });
  const endsWith = (error: unknown) =>
    over.resolve(error instanceof Error ? error.message : "the connection was closed");
  void connection.closed().then(endsWith);
  void messages.closed().then(endsWith);
  void (async () => {
    for await (const { type } of messages.status()) if (TROUBLES.has(type)) over.resolve(type.replaceAll("_", " "));
  })();

  return {
    resumed: from !== undefined,
    over: over.promise,
    async publish(payload) {
      try {
        await client.publish(subject, payload, { timeout: ANSWER_MS, expect: { streamName: stream } });
      } catch (error) {
        endsWith(error);
        throw error;
      }
    },
  };
}

const msOf = (nanoseconds: bigint): number => Number(nanoseconds / 1_000_000n);

/** Makes the stream where there is none. One that is there stays as it is: its settings are the operator's. */
async function makeStream(manager: JetStreamManager, name: string, subject: string): Promise<void> {
  const isMissing = await manager.streams.info(name).then(
    () => false,
    (error: unknown) => isNotFound(error) || Promise.reject(error),
  );
  if (!isMissing) return;
  await manager.streams
    .add({
      name,
      subjects: [subject],
      description: "Signalbox: which tasks have news. Nothing is lost with it.",
      storage: StorageType.Memory,
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.Old,
      max_age: nanos(KEPT_MS),
      max_bytes: KEPT_BYTES,
      duplicate_window: nanos(KEPT_MS),
      num_replicas: 1,
    })
    // Another replica has made it meanwhile, and somebody has changed it.
    .catch((error: unknown) => manager.streams.info(name).catch(() => Promise.reject(error)));
}

/**
 * Whether the stream still has this very message. Then it has all that followed, because the oldest goes first, and it is no
 * other stream of the same name, whose numbers would mean something else.
 */
async function isThere(manager: JetStreamManager, stream: string, { seq, at }: HeardAt): Promise<boolean> {
  const found = await manager.streams.getMessage(stream, { seq });
  return found !== null && found.time.getTime() === at;
}

const isNotFound = (error: unknown): boolean =>
  error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound;
