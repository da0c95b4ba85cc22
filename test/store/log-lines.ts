/** A logger whose lines a test reads, and can wait for. */
import { EventEmitter, once } from "node:events";
import { type Logger, pino } from "pino";

export interface LogLine {
  level: number;
  msg: string;
  [field: string]: unknown;
}

export interface LogLines {
  log: Logger;
  lines: LogLine[];
  /** Resolves with the first line, written already or still to come, whose message has these words. */
  until(words: string): Promise<LogLine>;
}

export function logLines(): LogLines {
  const lines: LogLine[] = [];
  const written = new EventEmitter();
  const write = (line: string) => {
    lines.push(JSON.parse(line) as LogLine);
    written.emit("line");
  };
  return {
    log: pino({ level: "trace" }, { write }),
    lines,
    async until(words) {
      for (;;) {
        const line = lines.find(({ msg }) => msg.includes(words));
        if (line) return line;
        await once(written, "line");
      }
    },
  };
}
