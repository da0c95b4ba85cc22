/** Settings of policy: the server's own files, and what holds where nobody says. */
import { durationMs, oneOf, path } from "../kinds.ts";
import type { Setting } from "./setting.ts";

export const POLICY_SETTINGS = {
  "policy.path": {
    ...path("the path of a file or a folder", "path"),
    defaultText: "none",
    about:
      "Policy file of this server, or a folder of them: they hold in all workspaces, beside the policies of their own. Taken over when they change, whole or not at all. See docs/policy.md.",
  },
  "policy.poll-ms": {
    ...durationMs(100),
    default: 5_000,
    about:
      "How often those files are looked at, in milliseconds, where the file system does not tell of their changes. Where it does, they are taken over at once.",
  },
  "policy.default": {
    ...oneOf("ALLOW", "DENY"),
    default: "ALLOW",
    about: "What becomes of a request about which no rule decides, where no policy document says it.",
  },
} as const satisfies Record<string, Setting>;
