/** Settings of the audit log. */
import { boolean } from "../kinds.ts";
import type { Setting } from "./setting.ts";

export const AUDIT_SETTINGS = {
  "audit.enabled": {
    ...boolean,
    default: true,
    about:
      "Whether what this server does is recorded in the audit log. One that records nothing says so in the log, where its silence begins and where it ends. See docs/audit.md.",
  },
} as const satisfies Record<string, Setting>;
