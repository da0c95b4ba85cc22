/**
 * Installs the dependencies when they are missing or are not those of package-lock.json, so that `npm start` and
 * `npm test` work on a fresh clone. Runs before anything is installed: no dependencies, and any Node from 18 on.
 *
 * npm writes what it installed to node_modules/.package-lock.json, last of all; comparing that with package-lock.json
 * needs no record of our own and respects an `npm install` made by hand.
 *
 * It is the npm `pre` script of its callers, not the first half of their command line: a shell remembers where it
 * found `node`, and would go on with the machine's Node instead of the one just installed.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);
const pinnedNode = new URL(`node_modules/.bin/node${process.platform === "win32" ? ".cmd" : ""}`, root);

const reason = whyInstall();
if (reason) install(reason);

/** Why the dependencies have to be installed; undefined when they need not be. */
function whyInstall() {
  const installed = packagesIn("node_modules/.package-lock.json");
  if (!installed) return "There is no complete node_modules folder yet.";
  const locked = packagesIn("package-lock.json") ?? {};
  for (const path of new Set([...Object.keys(locked), ...Object.keys(installed)])) {
    if (path !== "" && !matches(locked[path], installed[path]))
      return `${path} is not what package-lock.json asks for.`;
  }
  if (!existsSync(pinnedNode)) return "The pinned Node is missing from node_modules.";
  return undefined;
}

function matches(locked, installed) {
  // Packages for other platforms are locked too, and rightly absent.
  if (!installed) return locked.optional === true;
  return locked?.version === installed.version && locked?.integrity === installed.integrity;
}

function packagesIn(file) {
  try {
    return JSON.parse(readFileSync(new URL(file, root), "utf8")).packages;
  } catch {
    return undefined;
  }
}

function install(why) {
  console.error(`${why} Installing dependencies with "npm ci"; this takes about a minute.`);
  // Development dependencies hold the pinned Node, so they are needed whatever NODE_ENV says.
  const args = ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  const windows = process.platform === "win32";
  const { status, error } = spawnSync("npm", args, { cwd: fileURLToPath(root), stdio: "inherit", shell: windows });
  if (error) stop(`npm could not be started: ${error.message}`);
  if (status !== 0) stop('"npm ci" failed; its output above says why.');
  if (!existsSync(pinnedNode)) {
    stop('The pinned Node was not installed: npm ran no install scripts. Run "npm ci --ignore-scripts=false".');
  }
}

function stop(message) {
  console.error(message);
  process.exit(1);
}
