/** Settings of what several processes share that are right alone and wrong together. */
import type { ConfigProblem } from "./config-error.ts";
import type { Config, SettingKey } from "./settings.ts";

/** `where` tells where a setting was given. */
export function workerContradictions(
  { workers, database }: Config,
  where: (key: SettingKey) => string,
): ConfigProblem[] {
  if (workers === 1 || database.url !== undefined) return [];
  return [
    {
      where: where("workers"),
      message: `workers is ${workers}, and the database is PGlite, which one process has to itself. Set database.url to a PostgreSQL, or leave workers out.`,
    },
  ];
}
