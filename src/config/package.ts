/** This package: where it is, and its version. */
import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname } from "node:path";

// Found from here upwards, so that it works from src/ and from dist/src/ alike.
const file = findPackageJSON("..", import.meta.url);
if (file === undefined) throw new Error("The package.json of Signalbox is missing.");

/** Its folder, which has docs/ in it. */
export const PACKAGE_FOLDER: string = dirname(file);

/** Version of this package. */
export const PACKAGE_VERSION: string = (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
