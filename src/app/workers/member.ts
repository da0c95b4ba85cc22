/** One worker, as the process that started it knows it. */
import type { Worker } from "node:cluster";
import type { Config } from "../../config/settings.ts";
import type { FromWorker, ServingAt, ToWorker } from "./messages.ts";

export interface End {
  readonly code: number | null;
  readonly signal: string | null;
}

export type MemberState = "starting" | "serving" | "draining";

export interface Member {
  readonly id: number;
  readonly state: MemberState;
  /** Resolves when it serves; never, when it does not come to that. */
  readonly serving: Promise<ServingAt>;
  /** How it ended. */
  readonly ended: Promise<End>;
  /** What it says beside that. */
  onMessage(listener: (message: FromWorker) => void): void;
  tell(message: ToWorker): void;
  drain(): void;
  /** At once. */
  kill(): void;
}

export function createMember(worker: Worker, config: Config): Member {
  let state: MemberState = "starting";
  const serving = Promise.withResolvers<ServingAt>();
  const ended = Promise.withResolvers<End>();
  // Whoever is gone hears nothing; that it has gone is told by its end.
  const tell = (message: ToWorker) => void (worker.isConnected() && worker.send(message, () => {}));

  worker.on("message", (message: FromWorker) => {
    if (message.kind === "ready") {
      tell({ kind: "start", config });
      if (state === "draining") tell({ kind: "drain" });
    } else if (message.kind === "serving") {
      if (state === "starting") state = "serving";
      serving.resolve(message);
    } else if (message.kind === "draining") {
      state = "draining";
    }
  });
  worker.once("exit", (code: number | null, signal: string | null) => ended.resolve({ code, signal }));
  // A process that could not be started has no end to tell of; what cannot be told to one that ends is no error.
  worker.on("error", () => {
    if (worker.process.pid === undefined) ended.resolve({ code: 1, signal: null });
  });

  return {
    id: worker.id,
    get state() {
      return state;
    },
    serving: serving.promise,
    ended: ended.promise,
    onMessage: (listener) => void worker.on("message", listener),
    tell,
    drain() {
      state = "draining";
      tell({ kind: "drain" });
    },
    kill: () => void worker.process.kill("SIGKILL"),
  };
}
