/** A log whose bindings cost nothing until something is logged: most tasks and calls log nothing. */
import type { Logger } from "pino";

type Write = (facts: object | string, text?: string) => void;

export interface TaskLog {
  debug: Write;
  info: Write;
  warn: Write;
  error: Write;
}

export class LateLog implements TaskLog {
  #log: Logger | undefined;
  readonly #make: () => Logger;

  constructor(make: () => Logger) {
    this.#make = make;
  }

  debug(facts: object | string, text?: string): void {
    this.#made().debug(facts, text);
  }

  info(facts: object | string, text?: string): void {
    this.#made().info(facts, text);
  }

  warn(facts: object | string, text?: string): void {
    this.#made().warn(facts, text);
  }

  error(facts: object | string, text?: string): void {
    this.#made().error(facts, text);
  }

  #made(): Logger {
    this.#log ??= this.#make();
    return this.#log;
  }
}
