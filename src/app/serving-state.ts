/** Whether the server serves, for whoever asks for its health or waits for it to change. */
import { EventEmitter } from "node:events";
import type { ServingState } from "../transport/rpc/health-service.ts";

export function createServingState(): ServingState & { start(): void; stop(): void } {
  const changes = new EventEmitter().setMaxListeners(0);
  const state = {
    serving: false,
    stopping: false,
    onChange(listener: () => void) {
      changes.on("change", listener);
      return () => void changes.off("change", listener);
    },
    start() {
      state.serving = true;
      changes.emit("change");
    },
    stop() {
      state.serving = false;
      state.stopping = true;
      changes.emit("change");
    },
  };
  return state;
}
