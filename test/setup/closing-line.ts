/**
 * Ends a run with one plain line, `12 passed, 0 failed`, alone and uncolored, for programs that read the output.
 *
 * A skipped test proves nothing, so where every tool is installed none may be skipped: with SIGNALBOX_NO_SKIP=1 a
 * skipped test fails the run, and is named.
 */
import type { Reporter, SerializedError, TestModule } from "vitest/node";

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const inState = (state: string) => tests.filter((test) => test.result().state === state);
    const skipped = inState("skipped");
    // A file that does not load and an error outside of any test are failures without a test of their own.
    const broken = modules.filter((module) => module.errors().length > 0).length + unhandledErrors.length;
    const failed = inState("failed").length + broken;

    if (process.env.SIGNALBOX_NO_SKIP === "1" && skipped.length > 0) {
      for (const test of skipped) console.error(`Skipped: ${test.module.relativeModuleId} > ${test.fullName}`);
      console.error("SIGNALBOX_NO_SKIP=1: a skipped test fails the run.");
      process.exitCode = 1;
    }
    const tail = skipped.length > 0 ? `, ${skipped.length} skipped` : "";
    console.log(`${inState("passed").length} passed, ${failed} failed${tail}`);
  }
}
