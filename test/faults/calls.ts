/** Calls of clients that are made again, at another replica, until one answers. */
import { setTimeout } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { AFTER_SEQUENCE_HEADER, UPDATES_EXTENSION } from "../../src/sdk/resuming-stream.ts";
import type { Cluster, ReplicaSlot } from "./cluster.ts";
import type { Recorder } from "./recorder.ts";

/** A way to one replica. */
export type Lane = ReplicaSlot["lanes"][number];

/** A refusal that trying again does not change, such as of a cancel of what has ended. */
export interface Refusal {
  reason: string;
}

/** Bounds of the pause before another try, in milliseconds. */
const PAUSE_MS = [20, 200] as const;

const WIRE: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Aborted, Code.Unknown, Code.Internal, Code.Canceled]);

export interface Caller {
  /** Calls one replica after another until one answers or refuses. Throws when `signal` aborts. */
  persist<T>(call: (lane: Lane) => Promise<T>): Promise<T | Refusal>;
  /** One try. Undefined when another can help. */
  once<T>(call: (lane: Lane) => Promise<T>): Promise<T | Refusal | undefined>;
  pause(): Promise<void>;
}

export function createCaller(
  deps: { cluster: Cluster; recorder: Recorder; random: () => number; signal: AbortSignal },
  about: () => string,
): Caller {
  const { cluster, recorder, random, signal } = deps;
  /** Never the same twice in a row. */
  let place = Math.floor(random() * cluster.slots.length);

  function lane(): Lane {
    place = (place + 1 + Math.floor(random() * (cluster.slots.length - 1))) % cluster.slots.length;
    const { lanes } = cluster.slots[place]!;
    return lanes[Math.floor(random() * lanes.length)]!;
  }

  async function once<T>(call: (lane: Lane) => Promise<T>): Promise<T | Refusal | undefined> {
    try {
      return await call(lane());
    } catch (error) {
      signal.throwIfAborted();
      return judge(error);
    }
  }

  /** What an error means: a refusal; or undefined, when it is the trouble of a moment. */
  function judge(thrown: unknown): Refusal | undefined {
    if (!(thrown instanceof ConnectError)) throw thrown;
    const reason = thrown.findDetails(ErrorInfoSchema)[0]?.reason;
    recorder.trouble(reason ?? `wire: ${Code[thrown.code]}`);
    if (reason === undefined) {
      if (!WIRE.has(thrown.code)) recorder.surprise(`${about()}: ${thrown.message}`);
      return undefined;
    }
    if (thrown.code === Code.Unavailable || thrown.code === Code.ResourceExhausted) return undefined;
    if (thrown.code === Code.Internal && reason === "INTERNAL") {
      recorder.surprise(`${about()}: ${thrown.message}`);
      return undefined;
    }
    return { reason };
  }

  const pause = async () => {
    const [least, most] = PAUSE_MS;
    await setTimeout(least + random() * (most - least), undefined, { signal });
  };
  return {
    once,
    pause,
    async persist(call) {
      for (;;) {
        const answer = await once(call);
        if (answer !== undefined) return answer;
        await pause();
      }
    },
  };
}

export const isRefusal = (answer: unknown): answer is Refusal =>
  typeof answer === "object" && answer !== null && "reason" in answer && !("$typeName" in answer);

/** What goes along with every call. */
export function headersOf(after?: number): Record<string, string> {
  return {
    "A2A-Version": "1.0",
    "A2A-Extensions": UPDATES_EXTENSION,
    ...(after !== undefined && { [AFTER_SEQUENCE_HEADER]: String(after) }),
  };
}
