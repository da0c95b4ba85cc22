/**
 * The policy of each workspace as this replica knows it: its own document and the server's files, compiled together once for
 * each version. The number of the version is read every second, a document only when the number has changed.
 */
import type { Logger } from "pino";
import type { BudgetRule } from "../domain/budget/budget-rule.ts";
import { SignalboxError } from "../domain/errors.ts";
import { compilePolicy, policySteps } from "../domain/policy/compile.ts";
import type { DefaultEffect, PolicyDocument, PolicyProblem } from "../domain/policy/document.ts";
import type { CompiledPolicy } from "../domain/policy/verdict.ts";
import type { TrustRule } from "../domain/reputation/trust-rule.ts";
import type { PolicyRepository, StoredPolicy } from "../store/policy-repository.ts";
import type { HeldFile, PolicyFiles } from "./background/policy-files.ts";
import { loadBriefly } from "./held-briefly.ts";
import type { PolicyReader } from "./policy-reader.ts";
import { createStepper } from "./routing/breather.ts";
import type { Runtime } from "./runtime.ts";

/** What holds in a workspace. It never changes: what holds after a change is another. */
export interface ActivePolicy {
  /** Of the workspace's own document; 0 as long as there is none. */
  readonly version: number;
  readonly fileDigests: readonly string[];
  readonly compiled: CompiledPolicy;
  /** Of all documents, those of the server's files first. */
  readonly budgets: readonly BudgetRule[];
  /** The workspace's own, else that of the last file that has one; undefined: the defaults hold. */
  readonly trust: TrustRule | undefined;
}

/** A policy of which the workspace's document has no version yet. */
export interface Draft extends ActivePolicy {
  readonly document: PolicyDocument;
  /** The files that it was made with. */
  readonly files: readonly HeldFile[];
}

export interface Policies {
  /**
   * Sees to it that `of` tells what holds by now. Undefined when it does already: there is nothing to wait for. Rejects with
   * POLICY_UNREADABLE where this server cannot read what it should enforce, and has nothing older to go by.
   */
  load(workspaceId: string): Promise<void> | undefined;
  /** What holds, as it was loaded last. */
  of(workspaceId: string): ActivePolicy;
  /** What would hold with this as the workspace's document: made anew, which takes a moment for a large one. */
  withDraft(document: PolicyDocument): Promise<Draft>;
  /** What is wrong with the workspace's document for this server, which then goes by an older one; empty where nothing is. */
  problems(workspaceId: string): readonly PolicyProblem[];
  /** Puts a draft in force that was stored just now. */
  adopt(workspaceId: string, version: number, draft: Draft): Promise<void>;
}

export interface PoliciesDeps {
  repository: Pick<PolicyRepository, "latest" | "get">;
  files: Pick<PolicyFiles, "held">;
  reader: PolicyReader;
  runtime: Runtime;
  log: Logger;
  /** What holds where no rule decides and no document says. */
  standard: DefaultEffect;
  /** Told of each version of a workspace's policy that this replica has taken over, or could not read. */
  onReload: (result: "loaded" | "refused") => void;
}

/** What was loaded last of a workspace. */
interface Held {
  /** The version that was looked at last, whether or not it could be read. */
  looked: number;
  problems: readonly PolicyProblem[];
  /** The version that is being read, and when that is done. */
  reading: { readonly version: number; readonly done: Promise<void> } | undefined;
  renewing: Promise<void> | undefined;
  version: number;
  document: PolicyDocument | undefined;
  /** The files that `active` was made with; undefined before the first time. */
  files: readonly HeldFile[] | undefined;
  active: ActivePolicy;
}

export function createPolicies(deps: PoliciesDeps): Policies {
  const { repository, files, reader, runtime, log, onReload } = deps;
  const held = new Map<string, Held>();
  const inSteps = createStepper(runtime);
  /** Of the files alone: most workspaces have no document of their own, and share it. */
  let shared: { files: readonly HeldFile[]; active: Promise<ActivePolicy> } | undefined;

  const nothing: ActivePolicy = {
    version: 0,
    fileDigests: [],
    compiled: compilePolicy([], deps.standard),
    budgets: [],
    trust: undefined,
  };

  async function assembled(
    from: readonly HeldFile[],
    document: PolicyDocument | undefined,
    version: number,
  ): Promise<ActivePolicy> {
    const documents = from.map((file) => file.document);
    if (document) documents.push(document);
    return {
      version,
      fileDigests: from.map(({ digest }) => digest),
      compiled: await inSteps(policySteps(documents, deps.standard)),
      budgets: documents.flatMap(({ budgets }) => budgets),
      trust: documents.findLast(({ reputation }) => reputation !== undefined)?.reputation,
    };
  }

  function assemble(from: readonly HeldFile[], document: PolicyDocument | undefined, version: number) {
    if (document) return assembled(from, document, version);
    if (shared?.files !== from) shared = { files: from, active: assembled(from, undefined, 0) };
    return shared.active;
  }

  function placeOf(workspaceId: string): Held {
    const known = held.get(workspaceId);
    if (known) return known;
    const place: Held = {
      looked: 0,
      problems: [],
      reading: undefined,
      renewing: undefined,
      version: 0,
      document: undefined,
      files: undefined,
      active: nothing,
    };
    held.set(workspaceId, place);
    return place;
  }

  const briefly = loadBriefly(runtime, (workspaceId) => refresh(workspaceId, placeOf(workspaceId)));

  async function refresh(workspaceId: string, place: Held): Promise<void> {
    const latest = await repository.latest(workspaceId);
    if (place.reading?.version === latest && !place.files) {
      await place.reading.done;
    } else if (latest > place.looked) {
      const stored = await repository.get(workspaceId, latest);
      if (stored) await take(workspaceId, place, stored);
    } else if (!place.files && place.looked > place.version) {
      throw unreadable(workspaceId, place);
    }
    await renew(place);
  }

  const isRenewed = ({ files: from, active, version }: Held) => from === files.held && active.version === version;

  async function take(workspaceId: string, place: Held, stored: StoredPolicy): Promise<void> {
    if (place.files && reader.isLarge(stored.document)) {
      // It takes seconds: until then what holds holds on, and nobody waits.
      place.looked = stored.version;
      inBackground(workspaceId, place, stored);
      return;
    }
    await read(workspaceId, place, stored);
  }

  function inBackground(workspaceId: string, place: Held, stored: StoredPolicy): void {
    read(workspaceId, place, stored)
      .then(() => renew(place))
      .catch((err: unknown) => {
        // To be looked at again with the next request.
        if (place.looked === stored.version) place.looked = place.version;
        log.warn({ err, workspaceId, version: stored.version }, "a policy could not be read; trying again");
      });
  }

  /** Whoever looks again meanwhile waits for the same reading. */
  function read(workspaceId: string, place: Held, stored: StoredPolicy): Promise<void> {
    if (place.reading?.version === stored.version) return place.reading.done;
    const done = readAnew(workspaceId, place, stored).finally(() => {
      if (place.reading?.done === done) place.reading = undefined;
    });
    place.reading = { version: stored.version, done };
    return done;
  }

  async function readAnew(workspaceId: string, place: Held, { version, document: text }: StoredPolicy): Promise<void> {
    const read = await reader.read(text);
    if (place.version >= version) return;
    place.looked = Math.max(place.looked, version);
    if ("document" in read) {
      // It takes a moment: until then what holds holds on.
      const from = files.held;
      const { document } = read;
      const active = await assembled(from, document, version);
      if (place.version >= version) return;
      // What is wrong with a later one, which was read faster, is wrong still.
      const problems = place.looked > version ? place.problems : [];
      Object.assign(place, { problems, version, document, files: from, active });
      log.info({ workspaceId, version }, "a policy is in force");
      onReload("loaded");
      return;
    }
    if (place.looked === version) place.problems = read.problems;
    onReload("refused");
    for (const { line, column, path, description } of read.problems.slice(0, MOST_TOLD)) {
      log.error(
        { workspaceId, version, line, column, rule: path, problem: description },
        "this server cannot read the policy of a workspace; what held before holds on",
      );
    }
    if (!place.files) throw unreadable(workspaceId, place);
  }

  /** Makes anew what is made of the files and the document, where either has changed. */
  async function renew(place: Held): Promise<void> {
    while (!isRenewed(place)) {
      place.renewing ??= renewOnce(place).finally(() => {
        place.renewing = undefined;
      });
      await place.renewing;
    }
  }

  async function renewOnce(place: Held): Promise<void> {
    const now = files.held;
    const { document, version } = place;
    const active = await assemble(now, document, version);
    // Another one may have come meanwhile.
    if (place.version !== version) return;
    place.active = active;
    place.files = now;
  }

  return {
    load: (workspaceId) => briefly.load(workspaceId, !isRenewed(placeOf(workspaceId))),
    of: (workspaceId) => held.get(workspaceId)?.active ?? nothing,
    async withDraft(document) {
      const from = files.held;
      return { ...(await assembled(from, document, 0)), document, files: from };
    },
    problems: (workspaceId) => held.get(workspaceId)?.problems ?? [],

    async adopt(workspaceId, version, { document, files: from, ...draft }) {
      const place = placeOf(workspaceId);
      if (place.version >= version) return;
      const active: ActivePolicy = { ...draft, version };
      Object.assign(place, {
        looked: Math.max(place.looked, version),
        problems: [],
        version,
        document,
        files: from,
        active,
      });
      log.info({ workspaceId, version }, "a policy is in force");
      onReload("loaded");
      await renew(place);
    },
  };
}

/** Problems that the log names at most. */
const MOST_TOLD = 20;

const unreadable = (workspaceId: string, { looked, problems }: Held): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "POLICY_UNREADABLE",
    message: `This server cannot read version ${looked} of the policy of workspace "${workspaceId}", and so lets nothing pass: ${problems[0]?.description ?? ""}. Put a policy that it can read, or run the version of Signalbox that has taken this one.`,
    metadata: { policyVersion: String(looked) },
  });
