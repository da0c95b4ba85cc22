/**
 * The policy files of this server. They hold beside the policies of all workspaces, and are taken over whole or not at all
 * when they change: what is wrong keeps what held before, and is told in the log, in metrics and by GetPolicy.
 */
import type { Logger } from "pino";
import { SignalboxError } from "../../domain/errors.ts";
import { type PolicyDocument, type PolicyProblem, problemText } from "../../domain/policy/document.ts";
import type { PolicyReader } from "../policy-reader.ts";
import type { Runtime } from "../runtime.ts";
import { createAlarm } from "./alarm.ts";
import { type FileText, type PolicyFolder, policyFolder, UnreadableFiles } from "./policy-folder.ts";

/** How long the files are left alone after a change, which seldom comes alone, in milliseconds. */
const SETTLE_MS = 50;
/** Problems that a message names at most. */
const MOST_TOLD = 20;

/** A file that holds. */
export interface HeldFile {
  readonly name: string;
  /** SHA-256, in hexadecimal. */
  readonly digest: string;
  readonly document: PolicyDocument;
  /** Since when it holds. */
  readonly loadedAt: Date;
}

export interface PolicyFiles {
  /** Those that hold, in the order of their names. The same array for as long as nothing changes. */
  readonly held: readonly HeldFile[];
  /** What is wrong with the files as they are now; empty where they are what holds. */
  readonly problems: readonly PolicyProblem[];
  stop(): Promise<void>;
}

export interface PolicyFilesDeps {
  /** A file or a folder. */
  path: string;
  /** How often the files are looked at, whether or not a change was told, in milliseconds. */
  pollMs: number;
  reader: PolicyReader;
  runtime: Runtime;
  log: Logger;
  /** Told of each change of the files, and what came of it. */
  onReload: (result: "loaded" | "refused") => void;
}

/** Without a setting for them. */
export const noPolicyFiles: PolicyFiles = { held: [], problems: [], async stop() {} };

/** Throws POLICY_FILES_INVALID when they cannot be used at the start. */
export async function startPolicyFiles(deps: PolicyFilesDeps): Promise<PolicyFiles> {
  const { runtime, log, onReload } = deps;
  const folder: PolicyFolder = policyFolder(deps.path);
  const stop = new AbortController();
  const alarm = createAlarm();
  /** Whether a change was told since the last look. */
  let told = false;
  let held: readonly HeldFile[] = [];
  let problems: readonly PolicyProblem[] = [];
  /** The digests of what was looked at last, whether or not it holds. */
  let looked = "";

  /** Undefined when nothing has changed. */
  async function read(always: boolean): Promise<Loaded | undefined> {
    let texts: readonly FileText[] | undefined;
    try {
      texts = await folder.read(always);
    } catch (error) {
      if (!(error instanceof UnreadableFiles)) throw error;
      return { key: `${error.file} ${error.message}`, problems: [problemOf(error)] };
    }
    if (!texts) return undefined;
    const key = texts.map(({ name, digest }) => `${name} ${digest}`).join("\n");
    return key === looked ? undefined : { key, ...(await documentsOf(texts, held, deps.reader, runtime.now())) };
  }

  async function reload(always: boolean): Promise<void> {
    const loaded = await read(always);
    if (!loaded || loaded.key === looked) return;
    looked = loaded.key;
    if (!loaded.files) {
      problems = loaded.problems;
      for (const { file, line, column, path, description } of problems.slice(0, MOST_TOLD)) {
        log.error(
          { file, line, column, rule: path, problem: description },
          "a policy file is refused; what held before holds on",
        );
      }
      onReload("refused");
      return;
    }
    problems = [];
    held = loaded.files;
    log.info({ files: held.map(({ name, digest }) => ({ name, digest })) }, "policy files are in force");
    onReload("loaded");
  }

  async function keepWatching(): Promise<void> {
    while (!stop.signal.aborted) {
      await alarm.sleep(deps.pollMs, stop.signal);
      const always = told;
      told = false;
      if (always) await runtime.wait(SETTLE_MS, stop.signal);
      await reload(always).catch((err: unknown) => {
        // They look as they did, and yet they were not taken over.
        told = true;
        if (!stop.signal.aborted) log.error({ err }, "the policy files could not be looked at; trying again");
      });
    }
  }

  const unwatch = folder.watch(
    () => {
      told = true;
      alarm.ring();
    },
    (err) => log.warn({ err }, "changes of the policy files are not told to this server: it looks now and then"),
  );
  const first = await read(true).catch((error: unknown) => {
    unwatch();
    throw error;
  });
  if (!first?.files) {
    unwatch();
    throw filesInvalid(first?.problems ?? []);
  }
  looked = first.key;
  held = first.files;
  const watching = keepWatching().catch((err: unknown) => {
    if (!stop.signal.aborted) log.error({ err }, "the policy files are not watched any more");
  });

  return {
    get held() {
      return held;
    },
    get problems() {
      return problems;
    },
    async stop() {
      stop.abort();
      unwatch();
      await watching;
    },
  };
}

/** What was found, by which it is known again, and either what holds from now on or what is wrong with it. */
type Loaded = { readonly key: string } & (
  | { readonly files: readonly HeldFile[]; readonly problems?: never }
  | { readonly files?: never; readonly problems: readonly PolicyProblem[] }
);

/** Whole or not at all. A file that has not changed is not read again. */
async function documentsOf(texts: readonly FileText[], held: readonly HeldFile[], reader: PolicyReader, now: Date) {
  const files: HeldFile[] = [];
  const problems: PolicyProblem[] = [];
  for (const { name, text, digest } of texts) {
    const known = held.find((file) => file.name === name && file.digest === digest);
    if (known) {
      files.push(known);
      continue;
    }
    const read = await reader.read(text, name);
    if ("document" in read) files.push({ name, digest, document: read.document, loadedAt: now });
    else problems.push(...read.problems);
  }
  return problems.length > 0 ? { problems } : { files };
}

const problemOf = ({ file, message }: UnreadableFiles): PolicyProblem => ({
  file,
  line: 0,
  column: 0,
  path: "",
  description: message,
});

function filesInvalid(problems: readonly PolicyProblem[]): SignalboxError {
  const lines = problems.slice(0, MOST_TOLD).map((problem) => `  ${problemText(problem)}`);
  if (problems.length > MOST_TOLD) lines.push(`  and ${problems.length - MOST_TOLD} more`);
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "POLICY_FILES_INVALID",
    message: `The policy files cannot be used:\n${lines.join("\n")}`,
  });
}
