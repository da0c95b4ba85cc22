/** Settings of how tasks are carried: how long agents and tasks may take, and how often they are tried. */
import { durationMs, integer } from "../kinds.ts";
import type { Setting } from "./setting.ts";

export const TASK_SETTINGS = {
  "agent.timeout-ms": {
    ...durationMs(1),
    default: 300_000,
    about:
      "Longest silence of an agent within one call, in milliseconds. Then the call is ended, and the task looked for at the agent if it has named it; if it has not, the attempt has failed.",
  },
  "agent.away-ms": {
    ...durationMs(0),
    default: 60_000,
    about: "How long an agent may be out of reach in the middle of a task before the attempt fails, in milliseconds.",
  },
  "lease.ms": {
    ...durationMs(500),
    default: 10_000,
    about:
      "How long a server's tasks stay its own after its last heartbeat, in milliseconds. It gives four in that time. Then the other servers on the database take its tasks over. The same on all of them.",
  },
  "task.timeout-ms": {
    ...integer(1, 31_536_000_000, "ms"),
    default: 1_209_600_000,
    about: "How long a task may take from its acceptance to its end, in milliseconds. Its client may ask for less.",
  },
  "task.attempt-timeout-ms": {
    ...integer(1, 31_536_000_000, "ms"),
    default: 86_400_000,
    about: "How long an agent may work on a task without a rest, in milliseconds.",
  },
  "task.input-timeout-ms": {
    ...integer(1, 31_536_000_000, "ms"),
    default: 604_800_000,
    about: "How long a task may wait for its client's input, in milliseconds.",
  },
  "task.attempts": {
    ...integer(1, 100),
    default: 6,
    about:
      "How often a task is brought to its agent at most; with the pauses as they are by default, over about twelve seconds. It is tried again only if the agent provably never had it, or is registered as safe to repeat.",
  },
  "task.retry-min-ms": {
    ...durationMs(1),
    default: 500,
    about: "Longest pause before the second attempt, in milliseconds. It doubles with each further one, with jitter.",
  },
  "task.retry-max-ms": {
    ...durationMs(1),
    default: 30_000,
    about: "Longest pause between two attempts, in milliseconds.",
  },
  "task.gather-ms": {
    ...durationMs(0),
    default: 10,
    about:
      "How long a chunk of an artifact may wait to be written together with those that follow it, in milliseconds.",
  },
} as const satisfies Record<string, Setting>;
