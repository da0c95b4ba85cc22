/** The log of a server: JSON lines on standard error, with names of levels and readable times. */
import pino, { type Logger } from "pino";

/** `worker` names the process in each line, where there are several. */
export function createLog(level: string, worker?: number): Logger {
  const format = { level: (label: string) => ({ level: label }) };
  return pino(
    {
      level,
      base: worker === undefined ? null : { worker },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: format,
    },
    pino.destination({ dest: 2, sync: false }),
  );
}
