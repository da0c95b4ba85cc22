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
  /** Resolves with the next line. */
  next(): Promise<unknown>;
  /** Takes a line that came another way, as that of another process. Anything but JSON is a line too. */
  write(line: string): void;
}

export function logLines(): LogLines {
  const lines: LogLine[] = [];
  const written = new EventEmitter();
  const write = (line: string) => {
    lines.push(parse(line));
    written.emit("line");
  };
  return {
    log: pino({ level: "trace" }, { write }),
    write,
    next: () => once(written, "line"),
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

function parse(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return { level: 0, msg: line };
  }
}
