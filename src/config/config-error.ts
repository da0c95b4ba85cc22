/** What is wrong with a configuration, all of it at once. */

/** One mistake. */
export interface ConfigProblem {
  /** Where it is: `signalbox.yaml:3:9`, `SIGNALBOX_HTTP_PORT` or `--http-port`. */
  where: string;
  /** What is wrong and how to mend it, a sentence or two. Never holds a secret. */
  message: string;
}

/** Thrown when the configuration cannot be used. Its message lists every mistake, a line each. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map(({ where, message }) => `  ${where}: ${message}`);
    const count = problems.length === 1 ? "a mistake" : `${problems.length} mistakes`;
    super(`The configuration has ${count}:\n${lines.join("\n")}`);
    this.name = "ConfigError";
    this.problems = problems;
  }
}
