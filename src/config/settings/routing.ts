/** Settings of who takes a task: choice, results and keys that are kept, and which agents are passed over. */
import { STRATEGIES } from "../../domain/routing/strategy.ts";
import { boolean, durationMs, integer, oneOf } from "../kinds.ts";
import type { Setting } from "./setting.ts";

export const ROUTING_SETTINGS = {
  "routing.strategy": {
    ...oneOf(...STRATEGIES),
    default: "LEAST_LOAD",
    about:
      "What chooses among several agents that can take a task, where its message does not say. See docs/routing.md.",
  },
  "cache.max-bytes": {
    ...integer(0, 67_108_864, "bytes"),
    default: 1_048_576,
    about: "Largest log of a task whose result is given again to who asks the same, in bytes. See docs/caching.md.",
  },
  "cache.max-entries": {
    ...integer(0, 10_000_000),
    default: 10_000,
    about: "Results that are kept for a workspace. Beyond it the oldest are forgotten, within about a minute.",
  },
  "idempotency.keep-ms": {
    ...integer(1_000, 31_536_000_000, "ms"),
    default: 86_400_000,
    about: "How long a key of idempotency stands for its first request, in milliseconds. See docs/caching.md.",
  },
  "idempotency.message-id": {
    ...boolean,
    default: false,
    about:
      "Whether the `messageId` of a message is the key of a request that brings none. Only where no client gives the same one to two messages.",
  },
  "circuit.failures": {
    ...integer(0, 1000),
    default: 5,
    about:
      "Failures in a row after which an agent that cannot be reached gets no new tasks for a while. 0 turns that off. See docs/agent-health.md.",
  },
  "circuit.open-ms": {
    ...durationMs(1),
    default: 5_000,
    about:
      "How long that while is the first time, in milliseconds. It doubles each time that the agent is not back then.",
  },
  "circuit.open-max-ms": {
    ...durationMs(1),
    default: 60_000,
    about: "The longest that it becomes, in milliseconds.",
  },
  "outlier.max-ejected-percent": {
    ...integer(0, 100, "percent"),
    default: 50,
    about:
      "Share of a capability's agents, in percent, that may be passed over at once because they fail far more tasks than the others. 0 turns that off.",
  },
  "outlier.ejection-ms": {
    ...durationMs(1),
    default: 30_000,
    about:
      "How long such an agent is passed over the first time, in milliseconds. Each further time is longer by as much.",
  },
  "outlier.ejection-max-ms": {
    ...durationMs(1),
    default: 300_000,
    about: "The longest that it becomes, in milliseconds.",
  },
  "reputation.enabled": {
    ...boolean,
    default: true,
    about:
      "Whether it is counted what becomes of the tasks of agents. Where it is not, all are trusted, and nothing is known of anybody. The same on all servers of one database. See docs/reputation.md.",
  },
  "reputation.enforce": {
    ...boolean,
    default: true,
    about:
      "Whether agents that are not trusted enough get no tasks, and may not delegate any. Their reputation is kept all the same. See docs/reputation.md.",
  },
  "health.interval-ms": {
    ...integer(0, 86_400_000, "ms"),
    default: 30_000,
    about: "How often each agent is checked and its card refreshed, in milliseconds. 0 turns that off.",
  },
  "health.timeout-ms": {
    ...durationMs(1),
    default: 5_000,
    about: "Longest wait for an agent that is checked, in milliseconds.",
  },
  "health.failures": {
    ...integer(1, 1000),
    default: 3,
    about:
      "Checks in a row that an agent must fail before it gets no new tasks. One that it passes is enough to get some again.",
  },
} as const satisfies Record<string, Setting>;
