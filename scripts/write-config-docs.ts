/**
 * Writes docs/configuration.md from the table of settings.
 *
 *     node scripts/write-config-docs.ts
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  defaultText,
  environmentName,
  flagName,
  SETTING_KEYS,
  type SettingKey,
  settingOf,
} from "../src/config/settings.ts";
import { ROOT } from "./run.ts";

/** The text of docs/configuration.md. */
export function configurationPage(): string {
  return `${INTRODUCTION}\n${SETTING_KEYS.map(section).join("\n")}`;
}

const INTRODUCTION = `# Configuration

<!-- Written by scripts/write-config-docs.ts from src/config/settings/. Change the tables there, not this page. -->

Signalbox starts without any configuration. Every setting below can be given in three ways, which follow one rule: what is
\`http.port\` in the YAML file is \`SIGNALBOX_HTTP_PORT\` in the environment and \`--http-port\` on the command line. Flags win over
the environment, the environment over the file, the file over the defaults. An empty environment variable counts as unset.

\`\`\`yaml
# signalbox.yaml
http:
  port: 8080
  cors-origins: [https://app.example.com]
database:
  url: postgres://signalbox@db.internal/signalbox
log:
  level: info
\`\`\`

Levels of the file may also be joined by dots, as \`http.port: 8080\`. Relative paths start from the working folder, in the file
from the folder of the file. All mistakes of all sources are reported at once, each with its place and its remedy, before
anything starts; the process then ends with exit code 2. A password in \`database.url\` is never shown.

Client commands (\`signalbox send\`, \`agents\`, \`task\`) need the address of the server's HTTP listener: \`--server\`, or
\`SIGNALBOX_SERVER\`, else \`http://127.0.0.1:8080\`; and where everybody must authenticate, a credential, best \`SIGNALBOX_API_KEY\`
([identity.md](identity.md#how-clients-say-who-they-are)).

## Settings
`;

function section(key: SettingKey): string {
  const { rule, about } = settingOf(key);
  const fallback = defaultText(key);
  const facts = [
    `\`${flagName(key)}\`, \`${environmentName(key)}\``,
    `takes ${rule}`,
    ...(fallback ? [`default: ${fallback}`] : ["optional"]),
  ];
  return `### \`${key}\`\n\n${about}\n\n${facts.map((fact) => `- ${fact}`).join("\n")}\n`;
}

if (import.meta.main) writeFileSync(join(ROOT, "docs", "configuration.md"), configurationPage());
