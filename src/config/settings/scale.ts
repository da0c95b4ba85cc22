/** Settings of what keeps many replicas, many cores and many years going: the bus, the processes of a machine, and what is removed. */
import { integer, text } from "../kinds.ts";
import type { Setting } from "./setting.ts";

/** A hundred years: what is removed later than that is kept. */
const LONGEST_MS = 3_153_600_000_000;

export const SCALE_SETTINGS = {
  workers: {
    ...integer(1, 128),
    default: 1,
    about:
      "How many processes of this server share its listeners, one for each core that it may use. Each is a replica of its own, so more than one needs PostgreSQL. See docs/scaling.md.",
  },
  "nats.url": {
    ...text(
      "addresses such as nats://host:4222 or tls://user:password@host:4222, separated by commas",
      "url",
      isNatsUrl,
    ),
    secret: true,
    defaultText: "none: replicas tell each other through PostgreSQL",
    about:
      "NATS with JetStream, by which replicas tell each other that logs have grown, in place of PostgreSQL's NOTIFY. The same on all servers of one database; servers start and serve without it too. PGlite needs none. See docs/scaling.md.",
  },
  "retention.tasks-ms": {
    ...integer(0, LONGEST_MS, "ms"),
    default: 0,
    about:
      "How long a task is kept after its end, with its log and its artifacts, in milliseconds. 0 keeps tasks for ever. See docs/scaling.md.",
  },
  "retention.artifacts-ms": {
    ...integer(0, LONGEST_MS, "ms"),
    default: 0,
    about:
      "How long the contents of a task's artifacts are kept after its end, in milliseconds, where that is shorter than `retention.tasks-ms`. The task says which artifacts it had, and when they were emptied. 0 keeps them as long as the task.",
  },
} as const satisfies Record<string, Setting>;

function isNatsUrl(given: string): boolean {
  return given.split(",").every((each) => {
    const url = URL.parse(each.trim());
    return url !== null && /^(nats|tls):$/.test(url.protocol) && url.hostname !== "" && isEncoded(url);
  });
}

/** Whether its user and password can be decoded. */
function isEncoded({ username, password }: URL): boolean {
  try {
    decodeURIComponent(username);
    decodeURIComponent(password);
    return true;
  } catch {
    return false;
  }
}
