/** Settings of the audit log. */

import { isOrigin } from "../../domain/audit/checkpoint.ts";
import { boolean, integer, text } from "../kinds.ts";
import type { Setting } from "./setting.ts";

/** The private key in `data.dir`, and the one before it. */
export const KEY_FILE = "audit-key.pem";
export const PREVIOUS_KEY_FILE = "audit-key.previous.pem";

export const AUDIT_SETTINGS = {
  "audit.enabled": {
    ...boolean,
    default: true,
    about:
      "Whether what this server does is recorded in the audit log. One that records nothing says so in the log, where its silence begins and where it ends. See docs/audit.md.",
  },
  "audit.key": {
    ...text("the path of a file, or a key itself: PEM, or the seed in base64 or hexadecimal", "key"),
    secret: true,
    defaultText: "`audit-key.pem` in `data.dir`, made when the log has no key yet",
    about:
      "Private Ed25519 key that signs the checkpoints of the audit log: a file, or the key itself. The same on all servers of a database. See docs/audit.md.",
  },
  "audit.previous-key": {
    ...text("the path of a file, or a key itself: PEM, or the seed in base64 or hexadecimal", "key"),
    secret: true,
    defaultText: "`audit-key.previous.pem` in `data.dir`, if there is one",
    about:
      "The key before `audit.key`, while they change: it signs its successor, and checkpoints beside it until it is left out.",
  },
  "audit.origin": {
    ...text("an address without a scheme, such as example.com/audit", "name", isOrigin),
    defaultText: "a name that is made once for each database",
    about:
      "What the audit logs of this database are called in what is signed; the workspace follows after a slash. It holds for ever once there is a log.",
  },
  "audit.verify-rate": {
    ...integer(0, 1_000_000, "entries"),
    default: 2_000,
    about:
      "How many entries of the audit logs are read again and checked each second, over all servers of a database. 0 turns that off.",
  },
} as const satisfies Record<string, Setting>;
