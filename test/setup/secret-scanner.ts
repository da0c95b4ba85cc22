/**
 * Looks for secrets in what tests write: the logs of the servers that they start, and what commands say. What looks like a secret
 * fails the test file, and so does one that a test has handed out and told of with `secretIs`.
 */
import pino, { type Logger } from "pino";

/** What secrets look like, each with what it is called. */
const LOOKS: readonly (readonly [string, RegExp])[] = [
  ["an API key", /sbx_[a-z0-9]{4,32}_[A-Za-z0-9_-]{32,}/],
  ["a JSON Web Token", /eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}/],
  ["a bearer token", /\bBearer\s+[A-Za-z0-9._~+/-]{16,}=*/i],
  ["a private key", /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/],
  ["a client secret", /client_?secret\\?["']?\s*[:=]\s*\\?["']?(?!\[|\*|<)[^\s"'\\,}&]{8,}/i],
  ["a secret as the database keeps it", /\\?"(?:secret_)?sealed\\?"\s*:\s*\\?["{[]/],
  ["the hash of a key", /\\?"secret_hash\\?"\s*:\s*\\?["{[]/],
];

export interface FoundSecret {
  /** What was found there. */
  readonly what: string;
  /** Where: a log, or a command. */
  readonly where: string;
  /** The line, with the secret taken out. */
  readonly line: string;
}

export class SecretScanner {
  readonly #handedOut = new Set<string>();
  readonly #found: FoundSecret[] = [];

  /** A secret that was handed out: it may stand in no log from now on. Short ones would be found anywhere. */
  secretIs(secret: string): void {
    if (secret.length < 16) throw new Error("A secret of less than 16 characters cannot be told from other text.");
    this.#handedOut.add(secret);
  }

  scan(where: string, text: string): void {
    for (const line of text.split("\n")) {
      for (const secret of this.#handedOut) {
        if (line.includes(secret)) this.#note("a secret that was handed out", where, line, secret);
      }
      for (const [what, look] of LOOKS) {
        const [secret] = look.exec(line) ?? [];
        if (secret !== undefined) this.#note(what, where, line, secret);
      }
    }
  }

  /** What was found since this was asked last. */
  take(): FoundSecret[] {
    return this.#found.splice(0);
  }

  #note(what: string, where: string, line: string, secret: string): void {
    if (this.#found.length >= 20) return;
    const at = line.indexOf(secret);
    const clipped = line.slice(Math.max(0, at - 200), at + secret.length + 200);
    this.#found.push({ what, where, line: clipped.replaceAll(secret, "[SECRET]") });
  }
}

/** Of this test file. */
export const secrets = new SecretScanner();

/** Throws where a secret was written. */
export function expectNoSecrets(scanner: SecretScanner): void {
  const found = scanner.take();
  if (found.length === 0) return;
  const told = found.map(({ what, where, line }) => `- ${what}, in ${where}: ${line}`);
  throw new Error(`Secrets were written where everybody reads them:\n${told.join("\n")}`);
}

/** A log that is written nowhere and looked at by the line: all that a server could say at level debug. */
export const scannedLog = (scanner = secrets): Logger =>
  pino({ level: "debug" }, { write: (line: string) => scanner.scan("the log of a server", line) });

/** The same of a log that the test reads itself. */
export function alsoScanned(log: Logger, scanner = secrets): Logger {
  const stream = (log as unknown as Record<symbol, { write(line: string): unknown }>)[pino.symbols.streamSym];
  if (!stream) return log;
  const write = stream.write.bind(stream);
  stream.write = (line: string) => {
    scanner.scan("the log of a server", line);
    return write(line);
  };
  return log;
}

/** Commands that show a secret because that is what they are for, on standard output, once. */
const SHOWS_A_SECRET: ReadonlySet<string> = new Set(["keys"]);

/** What a command wrote. What it shows once is a secret from then on. */
export function scanCommand(
  args: readonly string[],
  { out, err }: { out: string; err: string },
  scanner = secrets,
): void {
  const where = `signalbox ${args[0] ?? ""}`;
  scanner.scan(`what "${where}" says of errors`, err);
  if (!SHOWS_A_SECRET.has(args[0] ?? "")) scanner.scan(`what "${where}" shows`, out);
  else for (const [key] of out.matchAll(/sbx_[a-z0-9]{4,32}_[A-Za-z0-9_-]{32,}/g)) scanner.secretIs(key);
}
