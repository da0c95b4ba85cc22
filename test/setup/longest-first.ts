/** Starts the files that take longest before all others, so that none of them is left to run alone at the end. */
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The longest first. Their size, by which vitest orders what it has not run yet, does not tell: they wait for processes. */
const LONG: readonly RegExp[] = [/\/test\/faults\/short\.test\.ts$/, /\/test\/conformance\//, /\/test\/fault\//];

function place({ moduleId }: TestSpecification): number {
  const index = LONG.findIndex((files) => files.test(moduleId));
  return index === -1 ? LONG.length : index;
}

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}
