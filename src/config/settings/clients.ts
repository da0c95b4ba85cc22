/** Settings of what clients see: streams, exchanges, the router's own card, and push notifications. */
import { durationMs, httpUrl, integer, path, text } from "../kinds.ts";
import { PACKAGE_VERSION } from "../package.ts";
import type { Setting } from "./setting.ts";

export const CLIENT_SETTINGS = {
  "task.silence-ms": {
    ...durationMs(0),
    default: 500,
    about: "How long a stream waits for the agent's first answer before it shows the task, in milliseconds.",
  },
  "stream.poll-ms": {
    ...durationMs(100),
    default: 5_000,
    about:
      "How often a replica looks into the logs that its clients watch, in milliseconds, in case a hint of another replica was lost.",
  },
  "exchange.keep-ms": {
    ...integer(1_000, 31_536_000_000, "ms"),
    default: 604_800_000,
    about:
      "How long an exchange, the messages with one correlation id, is kept after its last message, in milliseconds. See docs/exchange.md.",
  },
  "card.name": {
    ...text("text", "text"),
    default: "Signalbox",
    about: "Name in the router's own agent card.",
  },
  "card.description": {
    ...text("text", "text"),
    default: "Routes tasks to the agents registered with it.",
    about: "Description in the router's own agent card.",
  },
  "card.version": {
    ...text("text", "text"),
    default: PACKAGE_VERSION,
    defaultText: "the version of Signalbox",
    about: "Version in the router's own agent card.",
  },
  "card.max-age-seconds": {
    ...integer(0, 31_536_000, "seconds"),
    default: 60,
    about: "How long clients may keep a card before they ask again, in seconds.",
  },
  "card.provider-organization": {
    ...text("text", "text"),
    about: "Who runs this router, in its card. Needs `card.provider-url` too.",
  },
  "card.provider-url": {
    ...httpUrl("an http:// or https:// address without query"),
    about: "Website of who runs this router, in its card. Needs `card.provider-organization` too.",
  },
  "card.documentation-url": {
    ...httpUrl("an http:// or https:// address without query"),
    about: "Where people read about this router, in its card.",
  },
  "card.extended": {
    ...path("the path of a JSON file", "file"),
    about:
      "File with fields that the extended agent card has beside what its reader may use: for callers who have said who they are. See docs/cards.md.",
  },
  "push.attempts": {
    ...integer(1, 100),
    default: 5,
    about: "How often a push notification is tried before its webhook is given up for the task.",
  },
  "push.timeout-ms": {
    ...durationMs(1),
    default: 10_000,
    about: "Longest wait for a webhook's answer, in milliseconds.",
  },
} as const satisfies Record<string, Setting>;
