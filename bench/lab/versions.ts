/** Versions of what a benchmark runs with. */
import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";

/** `node 24.1.0, pg 8.1.0`: that of Node, and of the installed packages that are named. */
export function versions(...packages: readonly string[]): string {
  return [`node ${process.versions.node}`, ...packages.map((name) => `${name} ${packageVersion(name)}`)].join(", ");
}

function packageVersion(name: string): string {
  const file = findPackageJSON(name, import.meta.url);
  if (file === undefined) throw new Error(`the package ${name} is not installed`);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
