/**
 * Looks at what this package depends on:
 *
 *     node scripts/audit-deps.ts [--min-age DAYS]
 *
 * - what is known to be vulnerable, of what is installed with the package (`npm audit --omit=dev`);
 * - the lock file: each package has its integrity, and none an address that it is fetched from;
 * - which packages run scripts when they are installed: those of `allowScripts` in package.json, which names them all;
 * - licences: each of what is installed with the package is one of those below;
 * - with --min-age, when each version was published, as the registry tells: none within so many days.
 *
 * Exit 0 all is well, 1 something is not, 2 all is well as far as could be asked: the registry gave no answer.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "./run.ts";

interface LockedPackage {
  version?: string;
  resolved?: string;
  integrity?: string;
  license?: string;
  dev?: boolean;
  devOptional?: boolean;
  link?: boolean;
  hasInstallScript?: boolean;
}

/** Licences that let it be used, changed and given on, and ask for no more than that their words stay with it. */
const LICENCES = new Set([
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "CC0-1.0",
  "ISC",
  "MIT",
  "MIT-0",
  "PostgreSQL",
  "Unlicense",
]);

const ASK_MS = 60_000;

export interface AuditFindings {
  /** What is wrong, a sentence each. */
  problems: string[];
  /** What could not be asked. */
  unasked: string[];
}

/** What the lock file says of itself. */
export function lockFileProblems(
  packages: Readonly<Record<string, LockedPackage>>,
  allowScripts: Readonly<Record<string, boolean>>,
): string[] {
  const problems: string[] = [];
  for (const [path, each] of Object.entries(packages)) {
    if (path === "" || each.link) continue;
    const name = nameIn(path);
    const about = `${name}@${each.version ?? "?"}`;
    if (!each.integrity) problems.push(`${about} has no integrity in package-lock.json. Install it again with npm.`);
    else if (!/^sha512-/.test(each.integrity)) problems.push(`${about} has an integrity that is not of SHA-512.`);
    if (each.resolved !== undefined) {
      problems.push(
        `${about} names the address ${new URL(each.resolved).host} in package-lock.json. Leave "resolved" out.`,
      );
    }
    if (each.hasInstallScript && !Object.hasOwn(allowScripts, name)) {
      problems.push(`${about} runs a script when it is installed, and allowScripts in package.json does not name it.`);
    }
    if (!each.dev && !each.devOptional && !isAllowed(each.license)) {
      problems.push(`${about} has the licence ${each.license ?? "of none that is named"}, which is not on the list.`);
    }
  }
  for (const name of Object.keys(allowScripts)) {
    if (!Object.keys(packages).some((path) => nameIn(path) === name)) {
      problems.push(`allowScripts in package.json names ${name}, which is not installed. Take it out.`);
    }
  }
  return problems;
}

const nameIn = (path: string): string => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);

/** Of an SPDX expression: any of what `OR` joins, and all of what `AND` joins. */
export function isAllowed(licence: string | undefined): boolean {
  if (licence === undefined) return false;
  const bare = licence.replace(/^\((.*)\)$/, "$1");
  if (bare.includes(" OR ")) return bare.split(" OR ").some(isAllowed);
  return bare.split(" AND ").every((each) => LICENCES.has(each.trim()));
}

/** What `npm audit --json` wrote. */
export function knownVulnerabilities(written: string): AuditFindings {
  let answer: Record<string, unknown>;
  try {
    answer = JSON.parse(written) as Record<string, unknown>;
  } catch {
    return { problems: [], unasked: ["npm audit wrote no JSON: what is known to be vulnerable was not asked."] };
  }
  const found = answer.vulnerabilities as Record<string, { severity?: string; range?: string }> | undefined;
  if (!found || answer.error !== undefined) {
    const { message } = answer as { message?: string };
    const why = message ?? (answer.error as { summary?: string } | undefined)?.summary ?? "no answer";
    return {
      problems: [],
      unasked: [`The registry does not tell what is known to be vulnerable (${why.split("\n", 1)[0]}).`],
    };
  }
  const problems = Object.entries(found).map(
    ([name, { severity, range }]) => `${name} ${range ?? ""} is known to be vulnerable (${severity ?? "unknown"}).`,
  );
  return { problems, unasked: [] };
}

/** Versions that were published within so many days. */
function tooYoung(packages: Readonly<Record<string, LockedPackage>>, days: number): AuditFindings {
  const findings: AuditFindings = { problems: [], unasked: [] };
  const isOld = (time: string) => Date.now() - Date.parse(time) >= days * 86_400_000;
  for (const [path, { version, dev, devOptional, link }] of Object.entries(packages)) {
    if (path === "" || dev || devOptional || link || version === undefined) continue;
    const name = nameIn(path);
    const times = npm("view", name, "time", "--json").written;
    let time: string | undefined;
    try {
      time = (JSON.parse(times) as Record<string, string>)[version];
    } catch {
      // Told below.
    }
    if (time === undefined) findings.unasked.push(`The registry does not tell when ${name}@${version} was published.`);
    else if (!isOld(time))
      findings.problems.push(`${name}@${version} was published ${time}, less than ${days} days ago.`);
  }
  return findings;
}

function npm(...args: string[]): { written: string } {
  const { stdout } = spawnSync("npm", args, {
    cwd: ROOT,
    encoding: "utf8",
    timeout: ASK_MS,
    maxBuffer: 64 * 1024 ** 2,
  });
  return { written: stdout ?? "" };
}

function main(): number {
  const { values } = parseArgs({ options: { "min-age": { type: "string" } } });
  const days = values["min-age"] === undefined ? undefined : Number(values["min-age"]);
  if (days !== undefined && !(days > 0)) {
    console.error("--min-age takes days, as 7.");
    return 1;
  }
  const read = (file: string) => JSON.parse(readFileSync(join(ROOT, file), "utf8"));
  const { packages } = read("package-lock.json") as { packages: Record<string, LockedPackage> };
  const { allowScripts = {} } = read("package.json") as { allowScripts?: Record<string, boolean> };
  const all: AuditFindings[] = [
    { problems: lockFileProblems(packages, allowScripts), unasked: [] },
    knownVulnerabilities(npm("audit", "--omit=dev", "--json").written),
    ...(days === undefined ? [] : [tooYoung(packages, days)]),
  ];
  const problems = all.flatMap((each) => each.problems);
  const unasked = all.flatMap((each) => each.unasked);
  for (const problem of problems) console.error(problem);
  for (const each of unasked) console.error(each);
  const count = Object.keys(packages).length - 1;
  if (problems.length > 0) {
    console.error(`${problems.length} problems in ${count} packages.`);
    return 1;
  }
  console.log(
    unasked.length > 0
      ? `${count} packages: the lock file, scripts and licences are as they should be. The rest could not be asked.`
      : `${count} packages: all is as it should be.`,
  );
  return unasked.length > 0 ? 2 : 0;
}

if (import.meta.main) process.exitCode = main();
